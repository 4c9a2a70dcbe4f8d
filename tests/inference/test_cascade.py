"""The second stage of a cascade: what it learns from is what it will be given."""

import json
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy import ndimage
from torch import Tensor

import autounet.inference.validate as validate_module
from autounet.dataset import DatasetSpec, read_dataset
from autounet.errors import DatasetError
from autounet.inference.model import Model, Stage
from autounet.inference.run import PredictionJob, predict_cases
from autounet.inference.validate import validate_fold
from autounet.labels import LabelSpec, StructureClass
from autounet.layout import FoldLayout
from autounet.plan import Configuration, Normalization, Plan
from autounet.preprocessing.case import OUTSIDE
from autounet.preprocessing.run import prepare_dataset, recipe_of
from autounet.preprocessing.store import OpenCase, Store
from autounet.runtime import Runtime
from autounet.training.augmentation.pipeline import Augmentation
from autounet.training.loader import copy_patch
from autounet.training.sampler import PatchRequest

CPU, INLINE = torch.device("cpu"), Runtime(device="cpu", workers=0)
MakePlan = Callable[..., tuple[Plan, Configuration]]
Chosen = tuple[Plan, Configuration]

LABELS = LabelSpec(classes=(StructureClass(name="low", values=(2,)), StructureClass(name="high", values=(7,))))
REGIONS = LabelSpec(
    classes=(StructureClass(name="whole", values=(2, 7)), StructureClass(name="core", values=(7,))), overlapping=True, paint_order=(2, 7)
)
SHAPES = ((12, 11, 10), (9, 12, 13))


def blobs(seed: int, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """A label map of the values 0, 2 and 7, in z, y, x."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 1.5)
    return np.array([0, 2, 7], np.uint8)[np.digitize(noise, np.quantile(noise, (0.5, 0.8)))]


def save(path: Path, array_zyx: npt.NDArray[np.generic]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(np.ascontiguousarray(array_zyx.T), np.diag([-1.0, 1.25, 1.5, 1.0])), path)
    return path


@pytest.fixture
def dataset(tmp_path: Path) -> DatasetSpec:
    """Two cases with a margin and a corner of zeros."""
    root = tmp_path / "Dataset001_Test"
    for number, shape in enumerate(SHAPES):
        image = np.random.default_rng(number).uniform(50, 100, shape).astype(np.float32)
        image[:2] = image[:, :1] = image[-3:, :4, :4] = 0
        save(root / "imagesTr" / f"c{number}_0000.nii.gz", image)
        save(root / "labelsTr" / f"c{number}.nii.gz", blobs(number, shape))
    names = {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "low": 2, "high": 7}, "numTraining": 2, "file_ending": ".nii.gz"}
    (root / "dataset.json").write_text(json.dumps(names))
    return read_dataset(root)


@pytest.fixture
def maps(tmp_path: Path) -> dict[str, Path]:
    """By case, what a first stage has predicted for it while it was held out."""
    return {f"c{number}": save(tmp_path / "maps" / f"c{number}.nii.gz", blobs(number + 10, shape)) for number, shape in enumerate(SHAPES)}


def second_stage(chosen: Chosen, patch: int) -> Chosen:
    """A configuration as the second stage of a cascade with two foreground labels."""
    plan, entry = chosen
    network = entry.network.model_copy(update={"in_channels": 3})
    changes = {"name": "3d_cascade_fullres", "previous_stage": "3d_lowres", "network": network, "patch_size": (patch,) * 3, "batch_size": 6}
    entry = entry.model_copy(update=changes)
    return plan.model_copy(update={"configurations": {entry.name: entry}}), entry


@pytest.mark.parametrize("use_mask", [True, False])
@pytest.mark.parametrize("labels", [LABELS, REGIONS], ids=["labels", "regions"])
def test_a_network_sees_the_same_in_training_as_in_prediction(
    dataset: DatasetSpec, maps: dict[str, Path], make_plan: MakePlan, tmp_path: Path, labels: LabelSpec, use_mask: bool
) -> None:
    """Patches that hold a whole case, on a resampled grid with other axes: bit for bit the same but for the mask."""
    schemes = (Normalization(scheme="zscore", use_mask=use_mask),)
    plan, entry = second_stage(make_plan((1.1, 0.9, 1.2), transpose=(2, 0, 1), schemes=schemes, labels=labels), patch=24)
    stored = prepare_dataset(dataset, plan, {entry.name: tmp_path / "store"}, INLINE, maps)[entry.name]
    store, augmentation = Store(tmp_path / "store", recipe_of(plan, entry)), Augmentation(entry, entry.mirror_axes, "none")
    learnt_from = {case.case: _as_trained_on(store.open(case), augmentation, 24) for case in stored}

    seen: list[Tensor] = []

    def forward(patches: Tensor) -> Tensor:
        seen.append(patches.clone())
        return patches[:, : labels.outputs]

    source = dataset.root / "imagesTr"
    jobs = [PredictionJob(name, (source / f"{name}_0000.nii.gz",), tmp_path / f"{name}.nii.gz", previous=maps[name]) for name in maps]
    predict_cases(Model(plan, (Stage(entry, forward),), CPU), jobs, INLINE, mirror=False)
    for job, patches in zip(jobs, seen, strict=True):
        learnt = learnt_from[job.case]
        assert patches[:, 1:].equal(learnt[:, 1:])
        # Where a channel is normalised within the mask, training sets what the resampled mask leaves out to 0; nnU-Net does so, too.
        assert (patches[:, 0] == learnt[:, 0]).logical_or((learnt[:, 0] == 0) & use_mask).all()
        assert patches.flatten(2).any(2).all()  # in every channel something


def _as_trained_on(case: OpenCase, augmentation: Augmentation, side: int) -> Tensor:
    """The network's input, (1, channels, z, y, x), for a patch with the whole case in its middle, as prediction lays it."""
    image = torch.zeros((1, 1, side, side, side))
    labels, previous = (torch.full((1, side, side, side), OUTSIDE, dtype=torch.int16) for _ in range(2))
    z, y, x = (-((side - size) // 2) for size in case.labels.shape)
    copy_patch(case, PatchRequest(0, (z, y, x)), image[0].numpy(), labels[0].numpy(), previous=previous[0].numpy())
    return augmentation.apply(image, labels, augmentation.draw(np.random.default_rng(0), 1, 1), previous)[0]


def copied(patches: Tensor) -> Tensor:
    """Scores of background and two labels that repeat what the network is told."""
    told = patches[:, 1:] - 0.5
    return torch.cat((-told.amax(1, keepdim=True), told), 1)


def test_held_out_cases_get_the_label_maps_of_the_fold_that_held_them_out(
    dataset: DatasetSpec, maps: dict[str, Path], make_plan: MakePlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network that repeats what it is told gives them back, and has their scores. The grid is the images' own; patches overlap."""
    plan, entry = second_stage(make_plan((1.0, 1.25, 1.5), transpose=(2, 1, 0), labels=LABELS), patch=6)
    model = Model(plan, (Stage(entry, copied),), CPU)
    monkeypatch.setattr(validate_module, "load_folds", lambda *_: model)
    fold = FoldLayout(tmp_path / "fold_0")
    fold.root.mkdir()
    fold.weights.touch()
    scores = validate_fold(dataset, ["c0", "c1"], plan, entry, fold, INLINE, None, maps)
    for number, shape in enumerate(SHAPES):
        found = np.asarray(nibabel.load(fold.validation / f"c{number}.nii.gz").dataobj).T
        image = np.asarray(nibabel.load(dataset.root / "imagesTr" / f"c{number}_0000.nii.gz").dataobj).T
        box = ndimage.find_objects((image != 0).astype(int))[0]  # beyond it everything is background
        expected = np.zeros(shape, np.uint8)
        expected[box] = blobs(number + 10, shape)[box]
        np.testing.assert_array_equal(found, expected)
        truth = blobs(number, shape) == 7
        dice = 2 * (truth & (expected == 7)).sum() / (truth.sum() + (expected == 7).sum())
        assert scores.cases[f"c{number}"]["high"].dice == pytest.approx(dice)


def test_label_maps_that_do_not_fit_are_told(
    dataset: DatasetSpec, maps: dict[str, Path], make_plan: MakePlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, entry = second_stage(make_plan(labels=LABELS), patch=6)
    monkeypatch.setattr(validate_module, "load_folds", lambda *_: Model(plan, (Stage(entry, copied),), CPU))
    fold = FoldLayout(tmp_path / "fold_0")
    fold.root.mkdir()
    fold.weights.touch()
    save(maps["c0"], blobs(0, (12, 11, 9)))
    maps["c1"].write_bytes(b"broken")
    with pytest.raises(DatasetError, match="2 of 2") as caught:
        validate_fold(dataset, ["c0", "c1"], plan, entry, fold, INLINE, None, maps)
    first, second = (problem.what for problem in caught.value.problems)
    assert "c0: the first stage's label map and the image differ in shape 12×11×10 and 12×11×9" in first
    assert "c1.nii.gz" in second
