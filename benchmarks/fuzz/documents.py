"""Targets: dataset.json, the files of a run folder, presets, nnU-Net's JSON."""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from autounet.artefact import Artefact
from autounet.bundle import Manifest
from autounet.bundle_check import faults_of_plan
from autounet.cli.exporting import file_name
from autounet.dataset import read_dataset
from autounet.dataset_json import channels_and_labels
from autounet.errors import AutounetError
from autounet.evaluation.overlap import OverlapScore
from autounet.evaluation.scores import Scores
from autounet.fingerprint import CaseFingerprint, Fingerprint, Intensities
from autounet.geometry import Box, Grid, Trace
from autounet.health.findings import Health
from autounet.images import read_size, write_labels
from autounet.interop.nnunet_fingerprint import fingerprint_from_nnunet
from autounet.interop.nnunet_plans import nnunet_plans
from autounet.labels import LabelSpec, StructureClass
from autounet.plan import Configuration, LossSpec, NetworkSpec, Normalization, Plan, PlanRequest
from autounet.planners.planner import make_plan
from autounet.planners.preset_file import read_preset
from autounet.planners.presets import PRESETS
from autounet.postprocessing import KeepLargest, Postprocessing
from autounet.preprocessing.store import SourceFile, Store, StoredCase
from autounet.preset import NNUNET_OPTIMIZER, Preset
from autounet.selection import Candidate, Selection
from autounet.splits import Splits, five_folds
from benchmarks.fuzz.mutate import of_json
from benchmarks.fuzz.target import Target

GRID = Grid(shape_zyx=(3, 4, 5), spacing_mm_zyx=(2.0, 1.0, 1.0))
LABELS = LabelSpec(classes=(StructureClass(name="liver", values=(1,)), StructureClass(name="tumour", values=(5,))))


def small_plan(*names: str) -> Plan:
    """A plan whose networks have a thousand weights."""
    network = NetworkSpec(
        kind="plain",
        ndim=3,
        in_channels=1,
        outputs=3,
        features=(2, 3),
        strides=((1, 1, 1), (1, 2, 2)),
        kernel_sizes=((1, 3, 3), (3, 3, 3)),
        blocks_encoder=(1, 1),
        blocks_decoder=(1,),
    )
    configurations = {
        name: Configuration(
            name=name,
            spacing_mm=(3.0, 1.0, 1.0),
            median_shape=(8.0, 8.0, 8.0),
            patch_size=(4, 8, 8),
            batch_size=2,
            batch_dice=False,
            normalization=(Normalization(scheme="zscore"),),
            network=network,
            mirror_axes=(0, 1, 2),
            decisions=(),
        )
        for name in names or ("3d_fullres",)
    }
    return Plan(
        made_from={},
        dataset="Dataset001_Livers",
        request=PlanRequest(preset=PRESETS["nnunet"]),
        epochs=10,
        optimizer=NNUNET_OPTIMIZER,
        augmentation="nnunet",
        loss=LossSpec(),
        ndim=3,
        channels=("MRI",),
        labels=LABELS,
        file_ending=".nii.gz",
        transpose=(0, 1, 2),
        configurations=configurations,
        decisions=(),
    )


def planned(fingerprint: Fingerprint, preset: Preset) -> Plan:
    """As ``autounet plan`` does it."""
    return make_plan(fingerprint, preset, file_ending=".nii.gz")


def small_fingerprint() -> Fingerprint:
    """Of five cases."""
    statistics = Intensities(mean=1.0, std=1.0, min=0.0, max=9.0, median=1.0, percentile_00_5=0.0, percentile_99_5=8.0)
    cases = tuple(
        CaseFingerprint(
            case=f"case_{number}",
            shape_zyx=(40, 50, 60),
            shape_after_crop_zyx=(40, 50, 60),
            spacing_mm_zyx=(2.0, 1.0, 1.0),
            class_voxels={"liver": 1000, "tumour": 10},
        )
        for number in range(5)
    )
    return Fingerprint(
        made_from={},
        dataset="Dataset001_Livers",
        ndim=3,
        channels=("MRI",),
        labels=LABELS,
        cases=cases,
        intensities=(statistics,),
        median_relative_size_after_crop=1.0,
    )


def small_scores(cases: Sequence[str]) -> Scores:
    """The same for each case."""
    return Scores.of({case: {name: OverlapScore.from_counts(3, 1, 2) for name in LABELS.names} for case in cases})


# dataset.json -------------------------------------------------------------------------------------------------------------------


def _datasets(folder: Path) -> dict[str, bytes]:
    """Both dialects, beside files of every odd kind that an entry could name."""
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(exist_ok=True)
    for case in ("a", "b"):
        write_labels(folder / "imagesTr" / f"{case}_0000.nii.gz", np.zeros((3, 4, 5), np.uint8), GRID)
        write_labels(folder / "labelsTr" / f"{case}.nii.gz", np.zeros((3, 4, 5), np.uint8), GRID)
    (folder / "imagesTr" / "folder.nii.gz").mkdir(exist_ok=True)
    odd = folder / "odd"
    odd.mkdir(exist_ok=True)
    if hasattr(os, "mkfifo") and not (odd / "pipe.nii.gz").exists():
        os.mkfifo(odd / "pipe.nii.gz")
        (odd / "zero.nii").symlink_to("/dev/zero")
        (odd / "nothing.nii").symlink_to("not there")
        (odd / "itself.nii").symlink_to("itself.nii")
    rows = [{"image": f"./imagesTr/{case}_0000.nii.gz", "label": f"./labelsTr/{case}.nii.gz"} for case in "ab"]
    odd_rows = [
        {"image": f"./odd/{name}", "label": "./labelsTr/a.nii.gz"} for name in ("pipe.nii.gz", "zero.nii", "itself.nii", "../../outside")
    ]
    ours = {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "liver": 1, "tumour": 5}, "file_ending": ".nii.gz", "numTraining": 2}
    seeds: dict[str, dict[str, Any]] = {
        "found": ours,
        "decathlon": {"modality": {"0": "CT"}, "labels": {"0": "background", "1": "liver"}, "training": rows, "test": []},
        "odd": {"modality": {"0": "CT"}, "labels": {"0": "background", "1": "liver"}, "training": odd_rows},
        "named": {
            **ours,
            "dataset": {case: {"images": [f"imagesTr/{case}_0000.nii.gz"], "label": f"labelsTr/{case}.nii.gz"} for case in "ab"},
        },
        "regions": {**ours, "labels": {"background": 0, "whole": [1, 5], "core": 5, "ignore": 6}, "regions_class_order": [1, 5]},
        "partly": {**ours, "annotated": {"a": ["liver"]}},
    }
    return {name: json.dumps(content).encode() for name, content in seeds.items()}


def _read_dataset(data: bytes, folder: Path) -> None:
    (folder / "dataset.json").write_bytes(data)
    dataset = read_dataset(folder)
    for case in dataset.cases:
        # What is made for a case is named after it: prepared arrays, predictions, pictures.
        made = Store(folder / "store", "x").files(case.id)
        assert all(file.parent == folder / "store" and file.resolve().parent == (folder / "store").resolve() for file in made), case.id
        for image in (*case.images, case.label):
            read_size(image)
    channels_and_labels(json.loads(data.decode("utf-8-sig")), folder / "dataset.json")


# The run folder -----------------------------------------------------------------------------------------------------------------

KINDS: dict[str, type[Artefact]] = {
    kind.KIND: kind for kind in (Plan, Fingerprint, Splits, Selection, Scores, Health, StoredCase, Postprocessing, Manifest)
}


def _artefacts(folder: Path) -> dict[str, bytes]:
    trace = Trace(grid=GRID, transpose=(0, 1, 2), box=Box(start=(0, 0, 0), stop=(3, 4, 5)), prepared_shape=(3, 4, 5))
    candidate = Candidate(name="3d_fullres", configurations=("3d_fullres",), dice=None, classes={"liver": 0.5}, cost=1.0)
    made: list[Artefact] = [
        small_plan(),
        small_fingerprint(),
        planned(small_fingerprint(), PRESETS["small"]),
        Splits(made_from={}, folds=five_folds([f"case_{number}" for number in range(5)])),
        Selection(
            made_from={},
            rule="best",
            folds=("0",),
            cases=5,
            missing=(),
            candidates=(candidate,),
            chosen="3d_fullres",
            reason="x",
            comparisons=(),
            postprocessing=(KeepLargest(values=(1,)),),
            decisions=(),
            dice_before=0.5,
            dice_after=0.5,
        ),
        StoredCase(
            made_from={"recipe": "x"},
            case="case_0",
            trace=trace,
            sources=(SourceFile(name="a.nii.gz", size=1, mtime_ns=1),),
            file_bytes=(1, 1),
            foreground_counts=(1, 1),
        ),
        Postprocessing(made_from={}, steps=(KeepLargest(values=(1, 5)),)),
    ]
    seeds = {f"{entry.KIND}-{at}": entry.to_json().encode() for at, entry in enumerate(made)}
    seeds["scores"] = small_scores(["case_0"]).to_json().encode()
    return seeds


def _read_artefact(data: bytes, folder: Path) -> None:
    """Reads the file as that which it says it is; a plan is judged and a fingerprint planned from, as commands do next."""
    path = folder / "file.json"
    path.write_bytes(data)
    try:
        named = json.loads(data)["kind"]
    except Exception:
        named = None
    kind = KINDS.get(named, Plan) if isinstance(named, str) else Plan
    found = kind.load(path)
    if isinstance(found, Plan):
        for name in (f"{file_name(found.dataset)}.zip", *found.configurations):  # as `export` names a bundle
            check_name(name)
        if next(faults_of_plan(found), None) is None:
            found.digest()
    elif isinstance(found, Fingerprint):
        planned(found, PRESETS["small"])
    elif isinstance(found, Scores):
        for case in found.cases:
            found.case_mean(case)
        found.to_public()
    elif isinstance(found, Selection):
        found.candidate(found.chosen)


def check_name(name: str) -> None:
    """Folders and files are named so: nothing may lead out of the folder in which they are made."""
    folder = Path("/runs/x")
    made = Path(os.path.normpath(folder / name))
    assert (made.parent, "\0" in name) == (folder, False), f"a name that leads elsewhere: {name!r}"


# Presets and nnU-Net's JSON -------------------------------------------------------------------------------------------------------


def _presets(folder: Path) -> dict[str, bytes]:
    seeds = {
        "short": {"base": "small", "epochs": 20, "volumetric": {"max_features": 64}},
        "whole": PRESETS["nnunet"].model_dump(mode="json"),
    }
    seeds["whole"]["name"] = "mine"
    seeds["unpadded"] = {"base": "unet2015", "unpadded": {"edge": 100, "stages": 3}} if "unet2015" in PRESETS else {"base": "nnunet"}
    return {name: json.dumps(value).encode() for name, value in seeds.items()}


def _read_preset(data: bytes, folder: Path) -> None:
    """A preset that is accepted plans a dataset, or says why not."""
    path = folder / "mine.json"
    path.write_bytes(data)
    planned(small_fingerprint(), read_preset(path))


def nnunet_plans_json() -> dict[str, Any]:
    """plans.json of nnU-Net 2.6, one small configuration."""
    resampling = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}
    network = {
        "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        "arch_kwargs": {
            "n_stages": 2,
            "features_per_stage": [2, 3],
            "conv_op": "torch.nn.modules.conv.Conv3d",
            "kernel_sizes": [[1, 3, 3], [3, 3, 3]],
            "strides": [[1, 1, 1], [1, 2, 2]],
            "n_conv_per_stage": [1, 1],
            "n_conv_per_stage_decoder": [1],
            "conv_bias": True,
            "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
            "norm_op_kwargs": {"eps": 1e-5, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }
    base = {
        "data_identifier": "x",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": [4, 8, 8],
        "median_image_size_in_voxels": [8.0, 8.0, 8.0],
        "spacing": [3.0, 1.0, 1.0],
        "normalization_schemes": ["ZScoreNormalization"],
        "use_mask_for_norm": [False],
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": resampling,
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_seg_kwargs": {**resampling, "is_seg": True, "order": 1},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": {**resampling, "order": 1},
        "architecture": network,
        "batch_dice": False,
    }
    return {
        "dataset_name": "Dataset001_Livers",
        "plans_name": "nnUNetPlans",
        "image_reader_writer": "SimpleITKIO",
        "label_manager": "LabelManager",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {"3d_fullres": base, "3d_lowres": {"inherits_from": "3d_fullres", "spacing": [6.0, 2.0, 2.0]}},
        "foreground_intensity_properties_per_channel": {"0": {"mean": 1.0, "std": 1.0, "percentile_00_5": 0.0, "percentile_99_5": 9.0}},
    }


def _nnunet_documents(folder: Path) -> dict[str, bytes]:
    statistics = dict.fromkeys(("max", "mean", "median", "min", "percentile_00_5", "percentile_99_5", "std"), 1.0)
    fingerprint = {
        "foreground_intensity_properties_per_channel": {"0": statistics},
        "median_relative_size_after_cropping": 1.0,
        "shapes_after_crop": [[40, 50, 60]] * 2,
        "spacings": [[2.0, 1.0, 1.0]] * 2,
    }
    about = {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "liver": 1}, "numTraining": 2, "file_ending": ".nii.gz"}
    return {"both": json.dumps({"plans": nnunet_plans_json(), "fingerprint": fingerprint, "dataset": about}).encode()}


def _read_nnunet(data: bytes, folder: Path) -> None:
    """Plans, and a fingerprint that is planned from."""
    try:
        content = json.loads(data)
        parts = content["plans"], content["fingerprint"], content["dataset"]
    except Exception:
        return
    readers: tuple[Callable[[], Any], ...] = (
        lambda: nnunet_plans(parts[0], "plans.json"),
        lambda: planned(fingerprint_from_nnunet(parts[1], parts[2], "Dataset001"), PRESETS["small"]),
    )
    if not all(isinstance(part, dict) for part in parts[1:]):
        return
    for read in readers:
        try:
            read()
        except AutounetError:
            continue


TARGETS = (
    Target(
        "dataset_json",
        "dataset.json in both dialects, beside pipes, devices and links",
        _datasets,
        _read_dataset,
        of_json,
        may_name=("/etc/passwd", ".."),  # it may name images anywhere, a folder of slices too
    ),
    Target(
        "artefact",
        "plan, fingerprint, splits, selection, scores, health, prepared case",
        _artefacts,
        _read_artefact,
        of_json,
        most_seconds=30,
    ),
    Target("preset", "preset files, and plans made with them", _presets, _read_preset, of_json, most_seconds=30),
    Target("nnunet_json", "nnU-Net's plans, fingerprint and dataset.json", _nnunet_documents, _read_nnunet, of_json, most_seconds=30),
)
