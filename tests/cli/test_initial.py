"""What ``--init`` may name, what is taken from it, and how everything else is refused."""

import pickle
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from torch import Tensor

from autounet.bundle import write_bundle
from autounet.bundle_text import About
from autounet.checkpoint import save_weights
from autounet.cli.initial import initial_weights
from autounet.errors import ArtefactError, UsageError
from autounet.labels import LabelSpec, StructureClass
from autounet.layout import RunLayout
from autounet.networks.build import build_network
from autounet.plan import Configuration, LossSpec, NetworkSpec, Normalization, Plan, PlanRequest
from autounet.planners.presets import PRESETS
from autounet.preset import NNUNET_OPTIMIZER


def configuration(name: str, channels: int = 1, previous: str | None = None) -> Configuration:
    ndim = 2 if name == "2d" else 3
    network = NetworkSpec(
        kind="plain", ndim=ndim, in_channels=channels if previous is None else channels + 2, outputs=3, features=(2, 3),
        strides=((1,) * ndim, (2,) * ndim), kernel_sizes=((3,) * ndim,) * 2, blocks_encoder=(1, 1), blocks_decoder=(1,),
    )  # fmt: skip
    return Configuration(
        name=name, spacing_mm=(1.0,) * ndim, median_shape=(8.0,) * ndim, patch_size=(8,) * ndim, batch_size=2, batch_dice=False,
        normalization=(Normalization(scheme="zscore"),) * channels, network=network, mirror_axes=(), previous_stage=previous, decisions=(),
    )  # fmt: skip


def make_plan(*configurations: Configuration, channels: tuple[str, ...] = ("T1",), classes: tuple[str, str] = ("liver", "tumour")) -> Plan:
    labels = LabelSpec(classes=(StructureClass(name=classes[0], values=(1,)), StructureClass(name=classes[1], values=(2,))))
    return Plan(
        made_from={}, dataset="Dataset001_Livers", request=PlanRequest(preset=PRESETS["nnunet"]), epochs=10, optimizer=NNUNET_OPTIMIZER,
        augmentation="nnunet", loss=LossSpec(), ndim=3, channels=channels, labels=labels, file_ending=".nii.gz", transpose=(0, 1, 2),
        configurations={entry.name: entry for entry in configurations}, decisions=(),
    )  # fmt: skip


PLAN = make_plan(configuration("2d"), configuration("3d_fullres"), configuration("3d_lowres"))
FULLRES = PLAN.configurations["3d_fullres"]


def state(name: str, fold: str) -> dict[str, Tensor]:
    return build_network(PLAN.configurations[name].network, seed=sum((name + fold).encode())).state_dict()


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Folds 0 and 1 of 3d_fullres, fold 2 of 2d."""
    about = About(name="Livers", selection="3d_fullres", created="2026-11-24", origin="autounet", licence="", description="")
    folds = (("3d_fullres", "0"), ("3d_fullres", "1"), ("2d", "2"))
    write_bundle(tmp_path / "livers.zip", about, PLAN, None, ((name, fold, state(name, fold)) for name, fold in folds))
    return tmp_path / "livers.zip"


@pytest.fixture
def run_folder(tmp_path: Path) -> RunLayout:
    """A run folder in which folds 1 and 3 of 3d_fullres are trained, and fold 0 of 3d_lowres."""
    layout = RunLayout(tmp_path / "runs" / PLAN.dataset)
    PLAN.save(layout.plan)
    for name, fold in (("3d_fullres", "1"), ("3d_fullres", "3"), ("3d_lowres", "0")):
        save_weights(layout.fold(name, fold).weights, state(name, fold), {"plan": PLAN.recipe(name), "configuration": name, "fold": fold})
    return layout


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_bundle_gives_its_first_fold_of_the_same_configuration(bundle: Path) -> None:
    found = initial_weights(bundle, PLAN, FULLRES, seed=7)
    assert same(found.weights, state("3d_fullres", "0"))
    assert found.notes[0] == "fold 0 is taken, the first of 2 (0, 1)"
    assert found.source == f"Dataset001_Livers, 3d_fullres, fold 0 ({bundle})"
    assert same(initial_weights(bundle, PLAN, PLAN.configurations["2d"], seed=7).weights, state("2d", "2"))


def test_another_configuration_with_as_many_axes_serves_too(bundle: Path) -> None:
    found = initial_weights(bundle, PLAN, PLAN.configurations["3d_lowres"], seed=7)
    assert same(found.weights, state("3d_fullres", "0"))
    assert found.notes[0] == "there is no 3d_lowres in it, 3d_fullres is taken"


def test_a_trained_fold_is_named_by_its_folder_its_file_or_its_run_folder(run_folder: RunLayout) -> None:
    fold = run_folder.fold("3d_fullres", "3")
    for path in (fold.root, fold.weights):
        found = initial_weights(path, PLAN, FULLRES, seed=7)
        assert same(found.weights, state("3d_fullres", "3"))
        assert found.notes == ["100.0 % of the network's numbers come from the pretrained weights"]
    found = initial_weights(run_folder.root, PLAN, FULLRES, seed=7)
    assert same(found.weights, state("3d_fullres", "1"))
    assert found.notes[0] == "fold 1 is taken, the first of 2 (1, 3)"


def test_what_is_new_is_drawn_with_the_seed_of_the_training(bundle: Path) -> None:
    """A channel more and another class: the liver is known, the vessels are what a training without --init begins with."""
    plan = make_plan(configuration("3d_fullres", channels=2), channels=("T2", "T1"), classes=("vessels", "liver"))
    target = plan.configurations["3d_fullres"]
    found = initial_weights(bundle, plan, target, seed=7)
    fresh, old = build_network(target.network, seed=7).state_dict(), state("3d_fullres", "0")
    assert torch.equal(
        found.weights["heads.0.weight"], torch.stack([old["heads.0.weight"][0], fresh["heads.0.weight"][1], old["heads.0.weight"][1]])
    )
    first = found.weights["encoder.stages.0.0.conv.weight"]
    assert torch.equal(first[:, 1], old["encoder.stages.0.0.conv.weight"][:, 0])
    assert first[:, 0].abs().max() == 0


def test_a_second_stage_begins_from_a_first(bundle: Path) -> None:
    """It sees the labels of the stage before as further channels; they are new."""
    cascade = configuration("3d_cascade_fullres", previous="3d_lowres")
    plan = make_plan(configuration("3d_lowres"), cascade)
    found = initial_weights(bundle, plan, cascade, seed=7)
    first = found.weights["encoder.stages.0.0.conv.weight"]
    assert torch.equal(first[:, :1], state("3d_fullres", "0")["encoder.stages.0.0.conv.weight"])
    assert first[:, 1:].abs().max() == 0
    assert any("'label map of tumour' is new and begins at zero" in note for note in found.notes)


def refused(path: Path, words: str, kind: type[UsageError | ArtefactError] = UsageError, wanted: Configuration = FULLRES) -> None:
    with pytest.raises(kind, match=words):
        initial_weights(path, PLAN, wanted, seed=7)


def test_what_is_not_there_or_no_model_is_refused(tmp_path: Path, run_folder: RunLayout) -> None:
    refused(tmp_path / "nowhere.zip", r"nowhere\.zip: no such file or folder.*expected a bundle \(\.zip\), or the folder of a trained fold")
    refused(tmp_path, r"is no model.*expected a bundle")
    (tmp_path / "empty").mkdir()
    PLAN.save(tmp_path / "empty" / "plan.json")
    refused(tmp_path / "empty", "nothing is trained in this run folder")
    fold = run_folder.fold("3d_fullres", "1")
    fold.weights.rename(fold.weights_best)
    refused(fold.root, r"training of this fold has not ended.*name .*weights_best\.safetensors")
    assert same(initial_weights(fold.weights_best, PLAN, FULLRES, seed=7).weights, state("3d_fullres", "1"))
    shutil.copy(fold.weights_best, tmp_path / "alone.safetensors")
    refused(tmp_path / "alone.safetensors", r"no plan\.json beside these weights.*autounet export")


def test_no_network_with_as_many_axes(run_folder: RunLayout) -> None:
    refused(run_folder.root, r"has no 2D network: found 3d_fullres, 3d_lowres, expected 2d", wanted=PLAN.configurations["2d"])


def test_what_is_damaged_or_of_another_plan_is_refused(tmp_path: Path, bundle: Path, run_folder: RunLayout) -> None:
    (tmp_path / "cut.zip").write_bytes(bundle.read_bytes()[:2000])
    refused(tmp_path / "cut.zip", "is no zip, or a damaged one", ArtefactError)
    (tmp_path / "text.zip").write_text("not a zip")
    refused(tmp_path / "text.zip", "is no zip, or a damaged one", ArtefactError)
    weights = run_folder.fold("3d_fullres", "1").weights
    save_weights(weights, state("3d_fullres", "1"), {"plan": "another"})
    refused(weights, "trained with another plan", ArtefactError)
    nan = {name: torch.full_like(tensor, torch.nan) for name, tensor in state("3d_fullres", "1").items()}
    save_weights(weights, nan, {"plan": PLAN.recipe("3d_fullres")})
    refused(weights, "NaN", ArtefactError)
    weights.write_bytes(b"short")
    refused(weights, "weights cannot be read", ArtefactError)


class Trap:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.path,))


def test_pickles_are_refused_unread(tmp_path: Path, run_folder: RunLayout) -> None:
    """By their ending, and under any other name by what they begin with or hold; torch's own files are zips with a pickle in them."""
    trap = Trap(tmp_path / "executed")
    with zipfile.ZipFile(tmp_path / "exported_by_nnunet.zip", "w") as archive:
        archive.writestr("Dataset001/nnUNetTrainer__nnUNetPlans__2d/fold_0/checkpoint_final.pth", pickle.dumps(trap))
    for name in ("model.pt", "model.zip", "checkpoint_final.pth"):
        torch.save({"weights": trap}, tmp_path / name)
    (tmp_path / "model.bundle").write_bytes(pickle.dumps(trap))
    for name in ("model.pt", "model.zip", "checkpoint_final.pth", "model.bundle", "exported_by_nnunet.zip"):
        refused(tmp_path / name, r"reading a pickle can run any code.*autounet import")
    refused(tmp_path, r"is a model of nnU-Net's.*autounet import")
    assert not (tmp_path / "executed").exists()
    resume = run_folder.fold("3d_fullres", "1").resume
    torch.save({}, resume)
    refused(resume, r"is what training goes on from, no model\. Name .*weights\.safetensors")


def test_networks_that_do_not_fit_are_refused_by_name(bundle: Path) -> None:
    wider = FULLRES.model_copy(update={"network": FULLRES.network.model_copy(update={"features": (4, 8)})})
    refused(bundle, r"--init .*livers\.zip: the pretrained weights do not fit from the first layer on: found 2 feature maps", wanted=wider)
