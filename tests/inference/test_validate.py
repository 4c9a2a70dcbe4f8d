"""Held-out cases: predicted on their own grid, scored, and nothing else touched."""

import json
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from autounet.checkpoint import save_weights
from autounet.dataset import DatasetSpec, read_dataset
from autounet.errors import DatasetError
from autounet.evaluation.scores import Scores
from autounet.inference.validate import label_ending, validate_fold
from autounet.labels import LabelSpec, StructureClass
from autounet.layout import FoldLayout, RunLayout
from autounet.networks.build import build_network
from autounet.plan import Configuration, Plan
from autounet.runtime import Runtime

LABELS = LabelSpec(classes=(StructureClass(name="organ", values=(3,)),))
RUNTIME = Runtime(device="cpu", precision="fp32", workers=1)
MakePlan = Callable[..., tuple[Plan, Configuration]]


@pytest.fixture
def dataset(tmp_path: Path) -> DatasetSpec:
    """Three cases of different sizes with a cube of the value 3."""
    root = tmp_path / "Dataset001_Test"
    for folder in ("imagesTr", "labelsTr"):
        (root / folder).mkdir(parents=True)
    names = {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "organ": 3}, "numTraining": 3, "file_ending": ".nii.gz"}
    (root / "dataset.json").write_text(json.dumps(names))
    for number in range(3):
        labels = np.zeros((10 + number, 9, 8), np.uint8)
        labels[3:7, 3:7, 3:7] = 3
        affine = np.diag([-1.0, 1.5, 1.25, 1.0])
        image = (labels * 10 + 20).astype(np.float32)
        nibabel.save(nibabel.Nifti1Image(image, affine), root / "imagesTr" / f"c{number}_0000.nii.gz")
        nibabel.save(nibabel.Nifti1Image(labels, affine), root / "labelsTr" / f"c{number}.nii.gz")
    return read_dataset(root)


@pytest.fixture
def trained(tmp_path: Path, make_plan: MakePlan) -> tuple[Plan, Configuration, FoldLayout]:
    """A network with fresh weights, saved as a trained fold."""
    plan, configuration = make_plan((1.0, 1.5, 1.0), labels=LABELS)
    layout = RunLayout(tmp_path / "run").fold(configuration.name, "0")
    network = build_network(configuration.network, seed=1)
    with torch.no_grad():
        network.heads[0].bias.copy_(torch.tensor([-0.2, 0.2]))
    save_weights(layout.weights, network.state_dict(), {"plan": plan.recipe(configuration.name)})
    return plan, configuration, layout


def test_only_the_held_out_cases_are_predicted_and_their_scores_are_true(
    dataset: DatasetSpec, trained: tuple[Plan, Configuration, FoldLayout]
) -> None:
    plan, configuration, layout = trained
    scores = validate_fold(dataset, ["c2", "c0"], plan, configuration, layout, RUNTIME)
    assert sorted(path.name for path in layout.validation.iterdir()) == ["c0.nii.gz", "c2.nii.gz"]
    assert sorted(scores.cases) == ["c0", "c2"]
    for case in scores.cases:
        prediction, truth = nibabel.load(layout.validation / f"{case}.nii.gz"), nibabel.load(dataset.root / "labelsTr" / f"{case}.nii.gz")
        assert prediction.shape == truth.shape
        np.testing.assert_array_equal(prediction.affine, truth.affine)
        found, true = np.asarray(prediction.dataobj) == 3, np.asarray(truth.dataobj) == 3
        assert 0 < found.sum() < found.size
        dice = 2 * (found & true).sum() / (found.sum() + true.sum())
        assert scores.cases[case]["organ"].dice == pytest.approx(dice)
    assert Scores.load(layout.scores) == scores
    assert scores.made_from["plan"] == plan.recipe(configuration.name)


def test_classes_that_are_not_annotated_are_not_scored(dataset: DatasetSpec, tmp_path: Path, make_plan: MakePlan) -> None:
    labels = LabelSpec(classes=(StructureClass(name="organ", values=(3,)), StructureClass(name="tumour", values=(5,))))
    plan, configuration = make_plan((1.0, 1.5, 1.0), labels=labels)
    layout = RunLayout(tmp_path / "run").fold(configuration.name, "0")
    network = build_network(configuration.network, seed=1)
    with torch.no_grad():
        network.heads[0].bias.copy_(torch.tensor([0.0, 0.0, 99.0]))  # all of it is tumour
    save_weights(layout.weights, network.state_dict(), {"plan": plan.recipe(configuration.name)})
    first, second, _ = dataset.cases
    partial = dataset.model_copy(update={"cases": (first, second.model_copy(update={"annotated": ("organ",)}))})
    scores = validate_fold(partial, ["c0", "c1"], plan, configuration, layout, RUNTIME)
    assert {case: {name: score.dice for name, score in found.items()} for case, found in scores.cases.items()} == {
        "c0": {"organ": 0.0, "tumour": 0.0},
        "c1": {"organ": 0.0, "tumour": None},
    }


def test_slices_by_the_network_of_2015(dataset: DatasetSpec, tmp_path: Path, make_plan: MakePlan) -> None:
    """Slices of 9×8 pixels and a tile of 60 that scores 20: mostly mirror image, and still every voxel has its label."""
    plan, configuration = make_plan((1.25, 1.0), labels=LABELS)
    changes = {"kind": "unet2015", "features": (4, 8, 8), "strides": ((1, 1), (2, 2), (2, 2)), "kernel_sizes": ((3, 3),) * 3}
    network = configuration.network.model_copy(update={**changes, "blocks_encoder": (2, 2, 2), "blocks_decoder": (2, 2)})
    configuration = configuration.model_copy(update={"network": network, "patch_size": (60, 60)})
    plan = plan.model_copy(update={"configurations": {"2d": configuration}})
    layout = RunLayout(tmp_path / "run").fold("2d", "0")
    save_weights(layout.weights, build_network(network, seed=1).state_dict(), {"plan": plan.recipe("2d")})
    scores = validate_fold(dataset, ["c1"], plan, configuration, layout, RUNTIME)
    prediction = nibabel.load(layout.validation / "c1.nii.gz")
    assert prediction.shape == (11, 9, 8)
    assert set(np.unique(np.asarray(prediction.dataobj))) <= {0, 3}
    assert "organ" in scores.cases["c1"]


def test_cases_that_cannot_be_predicted_are_one_error_with_all_of_them(
    dataset: DatasetSpec, trained: tuple[Plan, Configuration, FoldLayout]
) -> None:
    (dataset.root / "imagesTr" / "c0_0000.nii.gz").write_bytes(b"no image")
    (dataset.root / "imagesTr" / "c1_0000.nii.gz").unlink()
    plan, configuration, layout = trained
    with pytest.raises(DatasetError, match="2 of 3 held-out cases could not be predicted") as caught:
        validate_fold(dataset, ["c0", "c1", "c2"], plan, configuration, layout, RUNTIME)
    assert [problem.case for problem in caught.value.problems] == ["c0", "c1"]
    assert not layout.scores.exists()
    assert [path.name for path in layout.validation.iterdir()] == ["c2.nii.gz"]


def test_predictions_of_jpegs_are_png() -> None:
    assert [label_ending(ending) for ending in (".nii.gz", ".png", ".jpg", ".JPEG")] == [".nii.gz", ".png", ".png", ".png"]
