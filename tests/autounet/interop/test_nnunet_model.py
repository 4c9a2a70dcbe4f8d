"""Trained nnU-Net models become plans and weights of ours; what would change the answer is refused by name."""

import copy
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from autounet.errors import ArtefactError, AutounetError, UsageError
from autounet.interop.nnunet_model import read_nnunet_model
from autounet.networks.build import build_network
from autounet.plan import NetworkSpec, Normalization, Plan
from tests.autounet.interop.conftest import DATASET, PLAIN, PLANS, Make, configuration, their_weights

RESIDUAL = PLAIN.model_copy(update={"kind": "residual", "features": (4, 6), "blocks_encoder": (1, 2), "blocks_decoder": (1,)})


def plans_with(key: str, value: Any) -> dict[str, Any]:
    """Plans in which one entry (``a.b`` for an inner one) of 3d_fullres, or of the plans where they have it, is another."""
    plans = copy.deepcopy(PLANS)
    part = plans if key in plans else plans["configurations"]["3d_fullres"]
    *outer, last = key.split(".")
    for step in outer:
        part = part[step]
    part[last] = value
    return plans


@pytest.mark.parametrize("spec", [PLAIN, RESIDUAL], ids=["plain", "residual"])
def test_every_tensor_finds_its_place(make: Make, spec: NetworkSpec) -> None:
    model = read_nnunet_model(make(spec=spec, folds=("0", "3")))
    assert list(model.weights) == ["3d_fullres"]
    assert list(model.weights["3d_fullres"]) == ["0", "3"]
    for fold, weights in model.weights["3d_fullres"].items():
        expected = build_network(spec, seed=ord(fold)).state_dict()
        assert weights.keys() == expected.keys()
        assert all(torch.equal(weights[name], tensor) for name, tensor in expected.items())
    assert model.notes == ()


def test_the_plan_is_nnunets(make: Make) -> None:
    plan = read_nnunet_model(make(mirror=(2, 0))).plan
    full = plan.configurations["3d_fullres"]
    assert (plan.dataset, plan.transpose, plan.file_ending, plan.ndim) == ("Dataset001_Test", (2, 0, 1), ".nii.gz", 3)
    assert (plan.channels, plan.labels.names, plan.labels.outputs) == (("MRI",), ("liver", "tumour"), 3)
    assert (full.spacing_mm, full.patch_size, full.mirror_axes) == ((3.0, 1.0, 1.0), (4, 8, 8), (0, 2))
    assert full.normalization == (Normalization(scheme="zscore", use_mask=True),)
    assert full.network == PLAIN
    assert Plan.from_json(plan.to_json(), "plan.json") == plan


def test_without_allowed_axes_nothing_is_mirrored(make: Make) -> None:
    assert read_nnunet_model(make(mirror=None)).plan.configurations["3d_fullres"].mirror_axes == ()


def test_ct_is_normalised_with_the_datasets_numbers(make: Make) -> None:
    plan = read_nnunet_model(make(plans=plans_with("normalization_schemes", ["CTNormalization"]))).plan
    expected = Normalization(scheme="ct", lower=-100.0, upper=300.0, mean=40.0, std=12.5)
    assert plan.configurations["3d_fullres"].normalization == (expected,)


def test_regions_keep_their_order_and_ignore_gets_no_output(make: Make) -> None:
    dataset = DATASET | {"labels": {"background": 0, "tumour": 2, "whole": [1, 2], "ignore": 3}, "regions_class_order": [2, 1]}
    spec = PLAIN.model_copy(update={"outputs": 2})
    labels = read_nnunet_model(make(spec=spec, dataset=dataset)).plan.labels
    assert (labels.overlapping, labels.names, labels.paint_order, labels.ignore_value) == (True, ("tumour", "whole"), (2, 1), 3)


def test_older_plans_say_the_same_in_other_words(make: Make) -> None:
    plans = copy.deepcopy(PLANS)
    full = plans["configurations"]["3d_fullres"]
    values = full.pop("architecture")["arch_kwargs"]
    full |= {
        "UNet_class_name": "PlainConvUNet", "UNet_base_num_features": 4, "unet_max_num_features": 6, "num_pool_per_axis": [0, 1, 1],
        "pool_op_kernel_sizes": values["strides"], "conv_kernel_sizes": values["kernel_sizes"],
        "n_conv_per_stage_encoder": values["n_conv_per_stage"], "n_conv_per_stage_decoder": values["n_conv_per_stage_decoder"],
    }  # fmt: skip
    plans["foreground_intensity_properties_by_modality"] = plans.pop("foreground_intensity_properties_per_channel")
    assert read_nnunet_model(make(plans=plans)).plan.configurations["3d_fullres"].network == PLAIN


def cascade(make: Make, first: bool = True) -> Path:
    """A cascade's second stage, with the first beside it."""
    second = PLAIN.model_copy(update={"in_channels": 3})  # an image and two foreground labels
    plans = copy.deepcopy(PLANS)
    plans["configurations"] = {
        "3d_lowres": configuration(PLAIN) | {"spacing": [6.0, 2.0, 2.0], "next_stage": "3d_cascade_fullres"},
        "3d_fullres": configuration(second),
        "3d_cascade_fullres": {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"},
    }
    if first:
        make("nnUNetTrainer__nnUNetPlans__3d_lowres", "3d_lowres", plans=plans)
    return make("nnUNetTrainer__nnUNetPlans__3d_cascade_fullres", "3d_cascade_fullres", second, plans=plans)


def test_a_cascade_brings_its_first_stage(make: Make) -> None:
    folder = cascade(make)
    for given in (folder, folder.parent):
        model = read_nnunet_model(given)
        assert list(model.weights) == list(model.plan.configurations) == ["3d_lowres", "3d_cascade_fullres"]
        assert model.plan.configurations["3d_cascade_fullres"].previous_stage == "3d_lowres"
        assert model.plan.configurations["3d_cascade_fullres"].network.in_channels == 3


def test_a_cascade_without_its_first_stage_says_what_is_missing(make: Make) -> None:
    with pytest.raises(ArtefactError, match=r"no folder 'nnUNetTrainer__nnUNetPlans__3d_lowres' beside it"):
        read_nnunet_model(cascade(make, first=False))


def test_a_previous_stage_leads_nowhere_else(make: Make) -> None:
    spec = PLAIN.model_copy(update={"in_channels": 3})
    plans = copy.deepcopy(PLANS)
    plans["configurations"]["3d_fullres"] = configuration(spec) | {"previous_stage": "../../elsewhere"}
    with pytest.raises(ArtefactError, match=r"plans\.json: a configuration's name is no file name"):
        read_nnunet_model(make(spec=spec, plans=plans))


def test_several_models_in_a_folder_ask_for_a_name(make: Make) -> None:
    folder = make().parent
    make("nnUNetTrainer__nnUNetResEncUNetMPlans__3d_fullres", spec=RESIDUAL)
    with pytest.raises(UsageError, match=r"nnUNetTrainer__nnUNetPlans, .*nnUNetTrainer__nnUNetResEncUNetMPlans\. Name one"):
        read_nnunet_model(folder)
    assert read_nnunet_model(folder, name="nnUNetTrainer__nnUNetPlans").plan.request.preset.kind == "plain"
    assert read_nnunet_model(folder, name="nnUNetTrainer__nnUNetResEncUNetMPlans__3d_fullres").plan.request.preset.kind == "residual"
    with pytest.raises(UsageError, match="no single model 'other'"):
        read_nnunet_model(folder, name="other")


def test_folds_are_those_of_cross_validation_unless_others_are_named(make: Make) -> None:
    folder = make(folds=("all", "0", "10", "2"))
    assert list(read_nnunet_model(folder).weights["3d_fullres"]) == ["0", "2", "10"]
    assert list(read_nnunet_model(folder, folds=("all",)).weights["3d_fullres"]) == ["all"]
    with pytest.raises(UsageError, match=r"fold 4 is not there: found folds 0, 2, 10, all"):
        read_nnunet_model(folder, folds=("0", "4"))
    with pytest.raises(ArtefactError, match=r"no fold with checkpoint_best\.pth: found fold_0/checkpoint_final\.pth"):
        read_nnunet_model(folder, "best")


def test_a_zip_as_nnunet_exports_it_is_read_like_the_folder(make: Make, tmp_path: Path) -> None:
    folder = make(folds=("0", "1"))
    packed = Path(shutil.make_archive(str(tmp_path / "model"), "zip", tmp_path / "results"))
    from_zip, from_folder = read_nnunet_model(packed), read_nnunet_model(folder)
    assert from_zip.plan == from_folder.plan
    assert list(from_zip.weights["3d_fullres"]) == ["0", "1"]


def test_messages_about_a_zip_name_the_zip(make: Make, tmp_path: Path) -> None:
    make(dataset={"labels": 7})
    packed = Path(shutil.make_archive(str(tmp_path / "model"), "zip", tmp_path / "results"))
    with pytest.raises(AutounetError, match=r"^.*model\.zip/Dataset001_Test/.*/dataset\.json: ") as error:
        read_nnunet_model(packed)
    assert "autounet-import-" not in str(error.value)


def test_a_bare_folder_of_any_name_will_do(make: Make, tmp_path: Path) -> None:
    shutil.copytree(make(), tmp_path / "my model")
    assert list(read_nnunet_model(tmp_path / "my model").weights) == ["3d_fullres"]


def test_an_unknown_trainer_is_mentioned(make: Make) -> None:
    assert "nnUNetTrainerMine" in read_nnunet_model(make(trainer="nnUNetTrainerMine")).notes[0]


ARCHITECTURE = "architecture.arch_kwargs"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("image_reader_writer", "NibabelIOWithReorient"),
        ("label_manager", "MyLabelManager"),
        ("preprocessor_name", "MyPreprocessor"),
        ("resampling_fn_data", "resample_torch_fornnunet"),
        ("resampling_fn_probabilities_kwargs", {"is_seg": False, "order": 0, "order_z": 0, "force_separate_z": None}),
        ("resampling_fn_seg_kwargs", {"is_seg": True, "order": 1, "order_z": 0, "force_separate_z": False}),
        ("architecture.network_class_name", "my_networks.PlainConvUNet"),
        (f"{ARCHITECTURE}.conv_bias", False),
        (f"{ARCHITECTURE}.dropout_op", "torch.nn.Dropout3d"),
        (f"{ARCHITECTURE}.norm_op", "torch.nn.modules.batchnorm.BatchNorm3d"),
        (f"{ARCHITECTURE}.norm_op_kwargs", {"eps": 1e-3, "affine": True}),
        (f"{ARCHITECTURE}.nonlin", "torch.nn.ReLU"),
        (f"{ARCHITECTURE}.nonlin_first", True),
        (f"{ARCHITECTURE}.squeeze_excitation", False),
    ],
)
def test_what_would_change_the_answer_is_refused_by_name(make: Make, key: str, value: Any) -> None:
    if key == f"{ARCHITECTURE}.nonlin_first" or key.endswith("squeeze_excitation"):
        plans = copy.deepcopy(PLANS)
        plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"][key.rpartition(".")[2]] = value
    else:
        plans = plans_with(key, value)
    with pytest.raises(ArtefactError, match=rf"plans\.json.*'{key.rpartition('.')[2]}' is one that autounet does not have"):
        read_nnunet_model(make(plans=plans))


def batch_norm(content: dict[str, Any]) -> None:
    content["network_weights"]["encoder.stages.0.0.convs.0.norm.running_mean"] = torch.zeros(4)


def wide(content: dict[str, Any]) -> None:
    wider = build_network(PLAIN.model_copy(update={"outputs": 4})).state_dict()
    content["network_weights"] = their_weights(PLAIN, wider)


def spread(content: dict[str, Any]) -> None:
    """A tensor of the right shape with one number behind it."""
    content["network_weights"]["decoder.seg_layers.0.weight"] = torch.zeros(1).expand(3, 4, 1, 1, 1)


def nan(content: dict[str, Any]) -> None:
    content["network_weights"]["decoder.seg_layers.0.bias"] = torch.full((3,), torch.nan)


def contradiction(content: dict[str, Any]) -> None:
    content["network_weights"]["decoder.encoder.stages.0.0.convs.0.conv.bias"] = torch.ones(4)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (batch_norm, r"encoder\.stages\.0\.0\.norm\.running_mean"),
        (wide, r"'heads\.0\.weight' of \(4, 4, 1, 1, 1\), expected \(3, 4, 1, 1, 1\)"),
        (spread, r"heads\.0\.weight"),
        (nan, r"heads\.0\.bias"),
        (contradiction, "encoder.stages.0.0.convs.0.conv.bias"),
        (lambda content: content["network_weights"].pop("decoder.seg_layers.0.bias"), r"heads\.0\.bias"),
        (lambda content: content["network_weights"].update(other=torch.zeros(2)), "other"),
        (lambda content: content["network_weights"].update({"decoder.seg_layers.0.bias": "text"}), r"seg_layers\.0\.bias"),
        (lambda content: content.pop("trainer_name"), "trainer_name"),
        (lambda content: content["init_args"].update(configuration="2d"), "2d"),
        (lambda content: content.update(inference_allowed_mirroring_axes=(0, 7)), r"\(0, 7\)"),
    ],
)
def test_weights_of_another_network_are_refused_and_the_tensor_is_named(
    make: Make, change: Callable[[dict[str, Any]], object], named: str
) -> None:
    with pytest.raises(ArtefactError, match=rf"checkpoint_final\.pth: .*{named}"):
        read_nnunet_model(make(change=change))


class Harmful:
    """Unpickling it would make a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        import os

        return os.system, (f"touch '{self.mark}'",)


def test_a_checkpoint_with_code_is_refused_by_name_and_the_code_does_not_run(make: Make, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    folder = make(change=lambda content: content["logging"].update(more=Harmful(mark)))
    with pytest.raises(ArtefactError, match=r"checkpoint_final\.pth: refused.*(posix|nt)\.system"):
        read_nnunet_model(folder)
    assert not mark.exists()


@pytest.mark.parametrize("kept", [0, 10, 2000, -100])
def test_a_part_of_a_checkpoint_is_an_error(make: Make, kept: int) -> None:
    folder = make()
    file = folder / "fold_0" / "checkpoint_final.pth"
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(ArtefactError, match=r"checkpoint_final\.pth"):
        read_nnunet_model(folder)


def test_a_checkpoint_that_unfolds_is_refused(make: Make) -> None:
    folder = make()
    file = folder / "fold_0" / "checkpoint_final.pth"
    with zipfile.ZipFile(file) as archive:
        members = {member.filename: archive.read(member) for member in archive.infolist()}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    with pytest.raises(ArtefactError, match=r"checkpoint_final\.pth: .*packed"):
        read_nnunet_model(folder)


LINK = 0o120777 << 16


@pytest.mark.parametrize(
    ("name", "attributes"), [("../plans.json", 0), ("/etc/plans.json", 0), ("a\\..\\plans.json", 0), ("C:/plans.json", 0), ("link", LINK)]
)
def test_zips_that_lead_out_of_their_folder_are_refused(make: Make, tmp_path: Path, name: str, attributes: int) -> None:
    make()
    packed = Path(shutil.make_archive(str(tmp_path / "model"), "zip", tmp_path / "results"))
    member = zipfile.ZipInfo(name)
    member.external_attr = attributes
    with zipfile.ZipFile(packed, "a") as archive:
        archive.writestr(member, "../../elsewhere")
    with pytest.raises(ArtefactError, match=r"model\.zip: refused.*nothing of it was unpacked"):
        read_nnunet_model(packed)


def test_zips_that_unfold_without_end_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("Dataset001_Test/a__b__3d_fullres/fold_0/checkpoint_final.pth", bytes(2**25))
    with pytest.raises(ArtefactError, match=r"bomb\.zip: .*checkpoint_final\.pth' is refused"):
        read_nnunet_model(tmp_path / "bomb.zip")
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/plans.json", b"0" * 5_000_000)
    with pytest.raises(ArtefactError, match=r"bomb\.zip: .*plans\.json' is refused"):
        read_nnunet_model(tmp_path / "bomb.zip")
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(1001):
            archive.writestr(f"{number}/plans.json", b"{}")
    with pytest.raises(ArtefactError, match="more than 1000 files of models"):
        read_nnunet_model(tmp_path / "bomb.zip")


def test_a_zip_with_damaged_content_is_a_message(tmp_path: Path) -> None:
    path = tmp_path / "damaged.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/plans.json", bytes(range(256)) * 40)
    content = bytearray(path.read_bytes())
    content[60:90] = bytes(30)
    path.write_bytes(content)
    with pytest.raises(ArtefactError, match=r"damaged\.zip: is no zip, or a damaged one"):
        read_nnunet_model(path)


def test_what_is_no_model_is_an_error_that_names_it(make: Make, tmp_path: Path) -> None:
    empty, text = tmp_path / "empty", tmp_path / "text.zip"
    empty.mkdir()
    text.write_text("not a zip")
    packed = Path(shutil.make_archive(str(tmp_path / "part"), "zip", make().parent))
    packed.write_bytes(packed.read_bytes()[:-300])
    for path in (empty, text, packed, tmp_path / "missing"):
        with pytest.raises(ArtefactError, match=path.name):
            read_nnunet_model(path)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("plans.json", "{"),
        ("plans.json", "[]"),
        ("plans.json", json.dumps(PLANS | {"configurations": {}})),
        ("plans.json", json.dumps(plans_with("batch_size", "many"))),
        ("plans.json", json.dumps(plans_with(f"{ARCHITECTURE}.features_per_stage", [10**12, 10**12]))),
        ("plans.json", json.dumps(plans_with("normalization_schemes", []))),
        ("dataset.json", "{}"),
        ("dataset.json", json.dumps(DATASET | {"file_ending": "../x"})),
        ("dataset.json", json.dumps(DATASET | {"labels": {"background": 0, "a": 1, "b": 5}})),
        ("dataset.json", json.dumps(DATASET | {"labels": {"background": 0, "a": 1}})),
    ],
)
def test_damaged_descriptions_are_errors_never_tracebacks(make: Make, file: str, content: str) -> None:
    folder = make()
    (folder / file).write_text(content, encoding="utf-8")
    with pytest.raises(AutounetError):
        read_nnunet_model(folder)
