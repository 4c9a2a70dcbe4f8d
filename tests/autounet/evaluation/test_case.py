"""All scores of one case: which are defined, in which units, and that cropping to a class changes nothing."""

import numpy as np
import pytest
from scipy import ndimage

from autounet.evaluation.case import ABSENT, ClassScore, score_case
from autounet.evaluation.lesions import LesionMatch
from autounet.evaluation.surface import SurfaceDistances
from autounet.geometry import Grid
from autounet.labels import LabelSpec, StructureClass

SPACING = (3.0, 1.0, 0.5)
DISTANCES = ("hd95_mm", "assd_mm")
LESIONS = ("lesion_f1", "lesion_dice", "lesions_true", "lesions_found", "lesions_false")


def spec(*values: int, ignore: int | None = None) -> LabelSpec:
    return LabelSpec(classes=tuple(StructureClass(name=f"c{value}", values=(value,)) for value in values), ignore_value=ignore)


def score(prediction: np.ndarray, truth: np.ndarray, labels: LabelSpec, ndim: int = 3) -> dict[str, ClassScore]:
    a, b, c = truth.shape
    grid = Grid(ndim=ndim, shape_zyx=(a, b, c), spacing_mm_zyx=SPACING)
    return score_case(prediction, truth, grid, labels, tolerance_mm=1.0)


def values(entry: ClassScore, *names: str) -> list[float | None]:
    return [getattr(entry, name) for name in names]


@pytest.fixture
def blobs() -> tuple[np.ndarray, np.ndarray]:
    """Prediction and truth of three classes: smooth blobs, and the same with noise at their edges."""
    rng = np.random.default_rng(4)
    field = ndimage.gaussian_filter(rng.random((12, 20, 24)), 2)
    truth = np.digitize(field, np.quantile(field, [0.6, 0.8, 0.9])).astype(np.uint8)
    field += 0.01 * rng.random(field.shape)
    return np.digitize(field, np.quantile(field, [0.6, 0.8, 0.9])).astype(np.uint8), truth


def test_every_class_is_measured_as_its_mask_in_the_whole_volume(blobs: tuple[np.ndarray, np.ndarray]) -> None:
    prediction, truth = blobs
    for value, entry in zip((1, 2, 3), score(prediction, truth, spec(1, 2, 3)).values(), strict=True):
        masks = np.pad(prediction == value, 3), np.pad(truth == value, 3)
        surfaces, lesions = SurfaceDistances.between(*masks, SPACING), LesionMatch.of(*masks)
        assert values(entry, *DISTANCES, "nsd") == pytest.approx([surfaces.hd95_mm(), surfaces.assd_mm(), surfaces.nsd(1.0)], abs=1e-12)
        assert values(entry, *LESIONS) == [lesions.f1(), lesions.dice(), lesions.true, lesions.found, lesions.false]
        assert entry.volume_truth == pytest.approx((truth == value).sum() * 1.5)
        assert entry.volume_prediction == pytest.approx((prediction == value).sum() * 1.5)


def test_regions_are_measured_on_their_own_masks_and_values_may_be_anything(blobs: tuple[np.ndarray, np.ndarray]) -> None:
    table = np.array([0, 7, 2035, 40000], np.uint16)
    prediction, truth = (table[labels] for labels in blobs)
    classes = (StructureClass(name="all", values=(7, 2035, 40000)), StructureClass(name="two", values=(7, 40000)))
    regions = LabelSpec(classes=classes, overlapping=True, paint_order=(2035, 7))
    scores = score(prediction, truth, regions)
    assert scores["all"] == score((prediction > 0).astype(np.uint8), (truth > 0).astype(np.uint8), spec(1))["c1"]
    odd = [np.isin(labels, (7, 40000)).astype(np.uint8) for labels in (prediction, truth)]
    assert scores["two"] == score(*odd, spec(1))["c1"]


def test_empty_masks() -> None:
    """Class 1 is nowhere, class 2 only in the truth, class 3 only in the prediction."""
    prediction, truth = np.zeros((2, 1, 4, 4), np.uint8)
    truth[0, 1:3, 1:3] = 2
    prediction[0, 0, 0] = 3
    scores = score(prediction, truth, spec(1, 2, 3))
    assert scores["c1"] == ABSENT
    assert scores["c1"].volume_truth == 0
    for name, lesions in (("c2", [0, 0, 1, 0, 0]), ("c3", [0, 0, 0, 0, 1])):
        assert values(scores[name], "dice", "iou", "nsd", *DISTANCES) == [0, 0, 0, None, None]
        assert values(scores[name], *LESIONS) == lesions
    assert values(scores["c2"], "volume_truth", "volume_prediction", "recall", "precision") == [4 * 1.5, 0, 0, None]
    assert values(scores["c3"], "volume_truth", "volume_prediction", "recall", "precision") == [0, 1.5, None, 0]


def test_planar_images_have_contours_and_areas() -> None:
    """Two squares of 4 by 4 pixels (1 mm by 0.5 mm), one moved along y by 2 mm. The thickness of 3 mm means nothing."""
    prediction, truth = np.zeros((2, 1, 12, 8), np.uint8)
    truth[0, 2:6, 2:6] = prediction[0, 4:8, 2:6] = 1
    entry = score(prediction, truth, spec(1), ndim=2)["c1"]
    assert entry.volume_truth == 16 * 0.5
    assert entry.hd95_mm == 2
    assert entry.assd_mm == pytest.approx(SurfaceDistances.between(prediction[0] > 0, truth[0] > 0, (1.0, 0.5)).assd_mm())
    assert entry.assd_mm != pytest.approx(score(prediction, truth, spec(1), ndim=3)["c1"].assd_mm)


def test_where_voxels_are_to_be_ignored_surfaces_and_lesions_are_not_measured(blobs: tuple[np.ndarray, np.ndarray]) -> None:
    prediction, truth = blobs
    labels = spec(1, 2, 3, ignore=9)
    assert score(prediction, truth, labels) == score(prediction, truth, spec(1, 2, 3))
    part = truth.copy()
    part[:4] = 9
    entry = score(prediction, part, labels)["c1"]
    assert values(entry, *DISTANCES, "nsd", *LESIONS) == [None] * 8
    assert values(entry, "dice", "volume_truth") == values(score(prediction[4:], truth[4:], spec(1, 2, 3))["c1"], "dice", "volume_truth")
