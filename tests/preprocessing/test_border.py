"""Nearness to two objects: numbers by hand, and the definition pixel by pixel."""

import math
import time

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from autounet.errors import UsageError
from autounet.labels import LabelSpec, StructureClass
from autounet.plan import LossSpec
from autounet.preprocessing.border import border_weights, check_loss, needs_border, two_distances

CELLS = LossSpec(kind="border_ce", objects=(1,))
LABELS = LabelSpec(classes=(StructureClass(name="one", values=(1,)), StructureClass(name="two", values=(2,))))


def by_definition(labels_yx: npt.NDArray[np.integer], loss: LossSpec) -> npt.NDArray[np.float64]:
    """Every pixel between objects against every pixel of every object."""
    objects = []
    for label in loss.objects:
        components, count = ndimage.label(labels_yx == label)
        objects += [np.argwhere(components == number) for number in range(1, count + 1)]
    weights = np.zeros(labels_yx.shape)
    for place in np.argwhere(~np.isin(labels_yx, loss.objects)):
        away = sorted(min(math.dist(place, pixel) for pixel in pixels) for pixels in objects)
        if len(away) > 1:
            weights[tuple(place)] = loss.border_weight * math.exp(-((away[0] + away[1]) ** 2) / (2 * loss.border_sigma_px**2))
    return weights


def test_by_hand() -> None:
    """Two cells, three pixels apart: in the gap d1 + d2 is 1 + 3, 2 + 2, 3 + 1, so 10 · exp(-16 / 50) = 7.2615 everywhere."""
    row = np.array([[[1, 0, 0, 0, 1, 1, 0]]])
    # Right of the second cell: 1 to it, 6 to the first: 10 · exp(-49 / 50) = 3.7531
    np.testing.assert_allclose(border_weights(row, CELLS)[0, 0], [0, 7.2615, 7.2615, 7.2615, 0, 0, 3.7531], rtol=1e-3)
    # Twice the weight and a σ of 2: 20 · exp(-16 / 8) = 2.7067
    sharper = CELLS.model_copy(update={"border_weight": 20.0, "border_sigma_px": 2.0})
    assert float(border_weights(row, sharper)[0, 0, 2]) == pytest.approx(2.7067, rel=1e-3)


def test_distances_by_hand() -> None:
    """From (0, 0): 3 down to one object, 4 across and 3 down, so 5, to the other."""
    labels = np.zeros((4, 5), int)
    labels[3, 0] = labels[3, 4] = 1
    nearest, second = two_distances(labels, (1,), 20)
    assert (nearest[0, 0], second[0, 0]) == (3, 5)
    assert (nearest[0, 2], second[0, 2]) == pytest.approx((math.sqrt(13), math.sqrt(13)))


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1), st.tuples(st.integers(1, 14), st.integers(1, 14)), st.sampled_from([(1,), (0,), (0, 2), (1, 2)]), st.data()
)
def test_equals_the_definition(seed: int, shape: tuple[int, int], objects: tuple[int, ...], data: st.DataObject) -> None:
    """Also where the background is the object, and where touching labels are two objects. Half precision rounds by 0.05 %."""
    share = data.draw(st.floats(0.1, 0.9))
    rng = np.random.default_rng(seed)
    labels = np.where(rng.random(shape) < share, rng.integers(1, 3, shape), 0)
    loss = CELLS.model_copy(update={"objects": objects})
    np.testing.assert_allclose(border_weights(labels[None], loss)[0], by_definition(labels, loss), rtol=1e-3, atol=1e-3)


def test_what_lies_beyond_the_reach_weighs_next_to_nothing() -> None:
    """The cut at four σ leaves out less than w0 · exp(-8)."""
    labels = np.zeros((3, 120), int)
    labels[1, 20], labels[1, 44] = 1, 1  # 24 apart with σ 5: reach 20
    np.testing.assert_allclose(border_weights(labels[None], CELLS)[0], by_definition(labels, CELLS), atol=10 * math.exp(-8))


def test_cells_that_meet_at_a_corner_are_two() -> None:
    """A border one pixel wide may run diagonally: cells must not be joined through it."""
    labels = np.array([[1, 0], [0, 1]])
    np.testing.assert_allclose(border_weights(labels[None], CELLS)[0], 10 * np.exp(-4 / 50) * (labels == 0), rtol=1e-3)


def test_slices_are_planes_of_their_own() -> None:
    rng = np.random.default_rng(0)
    labels = (ndimage.gaussian_filter(rng.normal(size=(3, 30, 30)), (0, 2, 2)) > 0).astype(int)
    whole = border_weights(labels, CELLS)
    for number in range(3):
        np.testing.assert_array_equal(whole[number], border_weights(labels[number : number + 1], CELLS)[0])


@pytest.mark.parametrize("labels", [np.zeros((1, 5, 5), int), np.ones((1, 5, 5), int), np.eye(5, dtype=int)[None] * 0 + 2])
def test_fewer_than_two_objects_have_no_border(labels: npt.NDArray[np.integer]) -> None:
    assert not border_weights(labels, CELLS).any()


def test_an_image_of_hundreds_of_cells_takes_a_moment() -> None:
    """About 280 components in 512×512 took 0.09 s on two cores; the limit leaves room for busy machines."""
    cells = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(1, 512, 512)), (0, 3, 3)) > 0.02
    began = time.process_time()
    border_weights(cells.astype(int), CELLS)
    assert time.process_time() - began < 2


def test_which_losses_need_it() -> None:
    assert needs_border(CELLS)
    assert not needs_border(LossSpec())
    assert not needs_border(LossSpec(kind="border_ce"))
    assert not needs_border(CELLS.model_copy(update={"border_weight": 0.0}))


def test_losses_that_do_not_fit_the_labels() -> None:
    check_loss(CELLS.model_copy(update={"class_weights": (1.0, 2.0, 3.0)}), LABELS)
    check_loss(LossSpec(), LABELS)
    with pytest.raises(UsageError, match=r"class_weights: found 2, expected 3"):
        check_loss(CELLS.model_copy(update={"class_weights": (1.0, 2.0)}), LABELS)
    with pytest.raises(UsageError, match=r"objects: found \[3\], expected label indices from 0 to 2"):
        check_loss(CELLS.model_copy(update={"objects": (0, 3)}), LABELS)
    regions = LabelSpec(classes=(StructureClass(name="all", values=(1, 2)),), overlapping=True, paint_order=(1,))
    with pytest.raises(UsageError, match="overlapping regions") as raised:
        check_loss(CELLS, regions)
    assert "dice_ce" in str(raised.value.remedy)
