"""``autounet plan`` beyond a dataset: from a fingerprint alone, compared with another plan, with choices of one's own."""

import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import pytest

Autounet = Callable[..., Any]

DATASET = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1, "tumour": 2}, "numTraining": 3, "file_ending": ".nii.gz"}
STATISTICS = dict.fromkeys(("mean", "std", "min", "max", "median", "percentile_00_5", "percentile_99_5"), 100.0)
FINGERPRINT = {
    "spacings": [[5.0, 0.8, 0.8], [2.5, 0.7, 0.7], [1.0, 0.8, 0.8]],
    "shapes_after_crop": [[100, 512, 512], [180, 500, 512], [400, 512, 512]],
    "foreground_intensity_properties_per_channel": {"0": STATISTICS},
    "median_relative_size_after_cropping": 1.0,
}


@pytest.fixture
def alone(tmp_path: Path) -> tuple[str, str, str, str]:
    """Options that name nnU-Net's fingerprint and its dataset.json."""
    for name, content in (("dataset_fingerprint.json", FINGERPRINT), ("dataset.json", DATASET)):
        (tmp_path / name).write_text(json.dumps(content))
    return "--fingerprint", str(tmp_path / "dataset_fingerprint.json"), "--dataset-json", str(tmp_path / "dataset.json")


def test_a_fingerprint_alone_gives_one_json_object(alone: tuple[str, ...], autounet: Autounet, tmp_path: Path) -> None:
    ended = autounet("plan", *alone, "--preset", "nnunet", "--gpu-memory", "8", "--json", cwd=tmp_path)
    assert ended.code == 0
    plan = json.loads(ended.out)
    assert plan["transpose_forward"] == [0, 1, 2]
    assert list(plan["configurations"]) == ["2d", "3d_lowres", "3d_fullres", "3d_cascade_fullres"]
    keys = {"patch_size", "batch_size", "spacing", "median_shape", "batch_dice", "normalization", "use_mask_for_norm", "architecture"}
    for name, configuration in plan["configurations"].items():
        assert keys <= set(configuration)
        network = configuration["architecture"]
        assert set(network) == {"kind", "features", "strides", "kernel_sizes", "blocks_encoder", "blocks_decoder"}
        ndim = 2 if name == "2d" else 3
        assert {len(configuration[key]) for key in ("patch_size", "spacing", "median_shape")} == {ndim}
        assert {len(row) for key in ("strides", "kernel_sizes") for row in network[key]} == {ndim}
    assert plan["configurations"]["3d_cascade_fullres"]["previous_stage"] == "3d_lowres"
    assert {file.name for file in tmp_path.iterdir()} == {"dataset.json", "dataset_fingerprint.json"}  # nothing is written


def test_our_own_fingerprint_needs_nothing_else(trained: Any, autounet: Autounet, tmp_path: Path) -> None:
    run = trained.runs / "Dataset011_Boxes"
    ended = autounet("plan", "--fingerprint", run / "fingerprint.json", "--preset", "small", "--json", cwd=tmp_path)
    again = autounet("plan", "-d", trained.volumes, "--runs", trained.runs, "--json")
    assert json.loads(ended.out) == json.loads(again.out)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"spacings": [[0, 1, 1]] * 3}, ["'spacings' of case 0", "three positive numbers"]),
        ({"spacings": [[1, 1, 1]] * 2}, ["2 and 3 entries"]),
        ({"shapes_after_crop": []}, ["'shapes_after_crop'"]),
        ({"shapes_after_crop": [[5, 5, 5]] * 3, "spacings": [[1, 1, 1]] * 3}, ["too small for a U-Net", "5×5×5"]),
        ({"shapes_after_crop": [[1, 1, 1]] * 3}, ["too small for a U-Net"]),
        ({"foreground_intensity_properties_per_channel": {}}, ["'foreground_intensity_properties_per_channel'"]),
        ({"median_relative_size_after_cropping": "much"}, ["'median_relative_size_after_cropping'"]),
    ],
)
def test_malformed_fingerprints(
    changes: dict[str, Any], words: list[str], alone: tuple[str, ...], refused: Autounet, kit: Any, tmp_path: Path
) -> None:
    kit.edit_json(tmp_path / "dataset_fingerprint.json", **changes)
    refused(1, words, "plan", *alone)


@pytest.mark.parametrize("text", ["", "[1, 2]", '"a"', "{", "[" * 100_000, "\x00", "null"])
def test_files_that_are_no_fingerprint(text: str, alone: tuple[str, ...], refused: Autounet, tmp_path: Path) -> None:
    (tmp_path / "dataset_fingerprint.json").write_text(text)
    refused(1, ["dataset_fingerprint.json"], "plan", *alone)


def test_a_thousand_classes(alone: tuple[str, ...], autounet: Autounet, kit: Any, tmp_path: Path) -> None:
    labels = {"background": 0, **{f"class {value}": value for value in range(1, 1001)}}
    kit.edit_json(tmp_path / "dataset.json", labels=labels)
    ended = autounet("plan", *alone)
    assert ended.code == 0
    assert "1001 outputs" in ended.out
    assert len(ended.out.splitlines()) < 200
    plan = json.loads(autounet("plan", *alone, "--json").out)
    assert all(min(entry["patch_size"]) >= 4 for entry in plan["configurations"].values())


def test_sources_that_contradict_or_miss_each_other(alone: tuple[str, ...], refused: Autounet, trained: Any, tmp_path: Path) -> None:
    refused(2, ["nothing to plan for", "-d DATASET"], "plan")
    refused(2, ["a dataset (-d) and a fingerprint"], "plan", *alone, "-d", trained.volumes)
    refused(2, ["--dataset-json without --fingerprint"], "plan", "-d", trained.volumes, *alone[2:])
    refused(2, ["which says nothing of labels", "--dataset-json"], "plan", *alone[:2])
    refused(1, ["missing.json", "No such file"], "plan", "--fingerprint", tmp_path / "missing.json")
    refused(1, ["no dataset.json"], "plan", *alone[:3], tmp_path / "elsewhere" / "dataset.json")


def test_an_impossible_memory_names_a_possible_one(alone: tuple[str, ...], refused: Autounet, autounet: Autounet) -> None:
    ended = refused(2, ["1e-05 GB of memory are too little", "the nearest that can"], "plan", *alone, "--gpu-memory", "1e-5")
    least = ended.err.split("--gpu-memory ")[1].split()[0]
    assert autounet("plan", *alone, "--gpu-memory", least).code == 0


def test_flags_that_a_fingerprint_alone_has_no_use_for_are_refused(alone: tuple[str, ...], refused: Autounet, tmp_path: Path) -> None:
    for flags in (("--runs", tmp_path), ("--data", tmp_path), ("--reset",), ("--overwrite",), ("--workers", "2")):
        refused(2, [f"{flags[0]} with --fingerprint"], "plan", *alone, *flags)


def test_a_fingerprint_of_ours_is_not_planned_with_anothers_labels(trained: Any, alone: tuple[str, ...], refused: Autounet) -> None:
    ours = trained.runs / "Dataset011_Boxes" / "fingerprint.json"
    refused(1, ["is not of the dataset of", "other channels or labels"], "plan", "--fingerprint", ours, *alone[2:])
    refused(1, ["is not a fingerprint", "found 'plan'"], "plan", "--fingerprint", ours.with_name("plan.json"))


def test_drawings_are_those_of_the_plan(trained: Any, autounet: Autounet, tmp_path: Path) -> None:
    """A plan that another command replaced has its drawings made again; those of configurations that are gone are gone too."""
    where = ("-d", trained.volumes, "--runs", tmp_path)
    run = tmp_path / "Dataset011_Boxes"
    assert autounet("plan", *where, "--preset", "nnunet").code == 0
    drawing = (run / "network_3d_fullres.svg").read_text()
    assert autounet("preprocess", *where, "--preset", "small", "-c", "2d").code == 0
    assert not list(run.glob("network_*"))
    assert autounet("plan", *where).code == 0
    again = (run / "network_3d_fullres.svg").read_text()
    assert "preset small" in again
    assert "preset nnunet" in drawing
    assert autounet("plan", *where, "--preset", "unet2015").code == 0
    assert {path.name for path in run.glob("network_*")} == {"network_2d.svg", "network_2d.png"}


def test_a_plan_that_models_need_is_missed(trained: Any, autounet: Autounet, refused: Autounet, runs_copy: Path) -> None:
    where = ("-d", trained.volumes, "--runs", runs_copy)
    (runs_copy / "Dataset011_Boxes" / "plan.json").unlink()
    refused(1, ["no plan here", "3d_fullres/fold_0 need it", "--overwrite"], "plan", *where)
    assert autounet("plan", *where, "--overwrite", "--preset", "small").code == 0


def test_choices_are_marked_and_remembered(trained: Any, autounet: Autounet, tmp_path: Path) -> None:
    where = ("-d", trained.volumes, "--runs", tmp_path)
    chosen = autounet("plan", *where, "--preset", "small", "--spacing", "2,2,2", "--features", "8", "--mirror-axes", "z,y")
    assert chosen.code == 0
    assert chosen.out.count("(chosen by you)") >= 4  # spacing, mirroring, features of both configurations
    plan = json.loads(autounet("plan", *where, "--json").out)  # no choice this time: they still hold
    full = plan["configurations"]["3d_fullres"]
    assert full["spacing"] == [2.0, 2.0, 2.0]
    assert full["architecture"]["features"][0] == 8
    assert full["mirror_axes"] == [0, 1]
    ended = autounet("plan", *where, "--reset", "--preset", "small")
    assert "chosen by you" not in ended.out
    assert "plan.json is replaced" in ended.err
    assert "target spacing 2×2×2 mm →" in ended.err


def test_comparison_says_what_differs_and_why(trained: Any, autounet: Autounet, refused: Autounet, tmp_path: Path) -> None:
    where = ("-d", trained.volumes, "--runs", tmp_path)
    old = trained.runs / "Dataset011_Boxes" / "plan.json"
    same = autounet("plan", *where, "--preset", "small", "--compare", old)
    assert "Nothing is decided differently" in same.out
    ended = autounet("plan", *where, "--features", "8", "--compare", old)
    assert f"What differs from {old}" in ended.out
    assert "16, 32" in ended.out
    changes = json.loads(autounet("plan", *where, "--compare", old, "--json").out)["changes"]
    assert {"configuration", "decision", "before", "after", "reason"} == set(changes[0])
    assert ("2d", "features") in {(change["configuration"], change["decision"]) for change in changes}
    refused(1, ["cannot be read as a plan"], "plan", *where, "--compare", tmp_path / "missing.json")
    cut = tmp_path / "cut.json"
    cut.write_text('{"plans_name": "nnUNetPlans"')
    refused(1, ["cut.json: cannot be read as a plan"], "plan", *where, "--compare", cut)
    refused(1, ["is not a plan"], "plan", *where, "--compare", trained.runs / "Dataset011_Boxes" / "fingerprint.json")


def test_a_plan_can_be_compared_with_nnunets(shared: Path, autounet: Autounet) -> None:
    folder = shared / "reference" / "msd" / "Dataset007_Pancreas"
    source = ("--fingerprint", folder / "dataset_fingerprint.json", "--dataset-json", folder / "dataset.json")
    assert "Nothing is decided differently" in autounet("plan", *source, "--compare", folder / "plans_plain.json").out
    ended = autounet("plan", *source, "--preset", "resenc-m", "--compare", folder / "plans_plain.json", "--json")
    assert {change["decision"] for change in json.loads(ended.out)["changes"]} >= {"blocks per stage", "patch size"}


def test_networks_are_drawn(trained: Any) -> None:
    run = trained.runs / "Dataset011_Boxes"
    for name in ("2d", "3d_fullres"):
        assert ElementTree.parse(run / f"network_{name}.svg").getroot().tag.endswith("svg")
        assert (run / f"network_{name}.png").read_bytes()[:4] == b"\x89PNG"


def test_a_low_resolution_trains_and_predicts(trained: Any, autounet: Autounet, tmp_path: Path) -> None:
    """A memory so small that a low resolution makes sense even for small boxes."""
    where = ("-d", trained.volumes, "--runs", tmp_path / "runs")
    own = tmp_path / "tiny.json"
    own.write_text(json.dumps({"base": "small", "volumetric": {"features": 100_000}}))
    planned = json.loads(autounet("plan", *where, "--preset", own, "--json").out)["configurations"]
    assert prod(planned["3d_lowres"]["spacing"]) > 2 * prod(planned["3d_fullres"]["spacing"])
    assert autounet("train", *where, "-f", "0", "-c", "3d_lowres", "--epochs", "1", "--iterations", "1").code == 0
    ended = autounet("predict", "-i", trained.volumes / "imagesTr", "-o", tmp_path / "out", "-m", tmp_path / "runs" / "Dataset011_Boxes")
    assert ended.code == 0
    assert len(list((tmp_path / "out").glob("[!.]*"))) == len(list((trained.volumes / "labelsTr").iterdir()))


def test_another_way_of_training_does_not_replace_the_plan_of_trained_folds(trained: Any, refused: Autounet, runs_copy: Path) -> None:
    """The network is the same, but folds that were trained differently must not pass for one model."""
    own = runs_copy / "slow.json"
    own.write_text(json.dumps({"base": "small", "optimizer": {"learning_rate": 0.001}}))
    words = ["a new plan would not fit the models trained with this one", "3d_fullres/fold_0", "--overwrite"]
    refused(2, words, "plan", "-d", trained.volumes, "--runs", runs_copy, "--preset", own)
