"""Grids, boxes and the way back, worked by hand."""

from itertools import permutations
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from autounet.geometry import Box, Grid, Trace, Triple, inverse_permutation, mirror_indices

TURNED = (0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0)
"""A quarter turn: array axis x runs along world y, axis y along world -x."""


def grid(**change: Any) -> Grid:
    fields: dict[str, Any] = {"shape_zyx": (4, 5, 6), "spacing_mm_zyx": (3.0, 2.0, 1.0), "origin_mm_xyz": (10.0, 20.0, 30.0), **change}
    return Grid(**fields)


def test_affine_by_hand() -> None:
    # voxel (x, y, z) = (1, 1, 1) lies at origin + 1 mm, 2 mm, 3 mm
    assert (grid().affine_xyz() @ [1, 1, 1, 1]).tolist() == [11, 22, 33, 1]
    # turned, one step along array x leads along world y, one along array y back along world x
    affine = grid(direction=TURNED).affine_xyz()
    assert (affine @ [1, 0, 0, 1]).tolist() == [10, 21, 30, 1]
    assert (affine @ [0, 1, 0, 1]).tolist() == [8, 20, 30, 1]


def test_equal_grids_do_not_differ() -> None:
    assert grid().differences(grid()) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"shape_zyx": (4, 5, 7)}, "shape 4×5×6 and 4×5×7 (z, y, x)"),
        ({"spacing_mm_zyx": (3.0, 2.0, 1.1)}, "spacing 3, 2, 1 and 3, 2, 1.1 mm (z, y, x)"),
        ({"origin_mm_xyz": (10.0, 20.0, 31.0)}, "origin 10, 20, 30 and 10, 20, 31 mm (x, y, z)"),
        ({"direction": TURNED}, "direction (orientation of the axes)"),
    ],
)
def test_differences_are_told_in_words(change: dict[str, Any], words: str) -> None:
    assert grid().differences(grid(**change)) == [words]


def test_all_differences_are_told() -> None:
    other = grid(shape_zyx=(1, 1, 1), spacing_mm_zyx=(1.0, 1.0, 9.0), origin_mm_xyz=(0.0, 0.0, 0.0), direction=TURNED)
    assert len(grid().differences(other)) == 4


@pytest.mark.parametrize(
    "change",
    [
        {"spacing_mm_zyx": (3.0, 2.0, 1.0000001)},
        {"origin_mm_xyz": (10.0, 20.0, 30.0001)},
        {"direction": (1.0, 1e-6, 0.0, -1e-6, 1.0, 0.0, 0.0, 0.0, 1.0)},
    ],
)
def test_what_float32_headers_round_is_no_difference(change: dict[str, Any]) -> None:
    assert grid().differences(grid(**change)) == []


def test_values_are_checked() -> None:
    with pytest.raises(ValidationError):
        grid(spacing_mm_zyx=(1.0, 1.0, float("nan")))
    with pytest.raises(ValidationError):
        grid(shape_zyx=(1.5, 1, 1))
    with pytest.raises(ValidationError):
        grid(thickness=1)
    with pytest.raises(ValidationError):
        grid().ndim = 2  # type: ignore[misc]


def test_box() -> None:
    box = Box(start=(1, 2, 3), stop=(4, 3, 7))
    assert box.shape == (3, 1, 4)
    assert np.zeros((9, 9, 9))[box.slices()].shape == (3, 1, 4)
    assert np.zeros((2, 9, 9, 9))[(slice(None), *box.slices())].shape == (2, 3, 1, 4)


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_inverse_permutation(order: Triple) -> None:
    array = np.zeros((2, 3, 4))
    assert array.transpose(order).transpose(inverse_permutation(order)).shape == array.shape


def test_transposed_shape_and_spacing() -> None:
    trace = Trace(grid=grid(), transpose=(2, 0, 1), box=Box(start=(0, 0, 0), stop=(6, 4, 5)), prepared_shape=(6, 4, 5))
    assert trace.transposed_shape == (6, 4, 5)
    assert trace.transposed_spacing_mm == (1.0, 3.0, 2.0)


def test_place_back_by_hand() -> None:
    """The box x 3..4, z 1..2, y 2..2 in the axis order x, z, y."""
    trace = Trace(grid=grid(), transpose=(2, 0, 1), box=Box(start=(3, 1, 2), stop=(5, 3, 3)), prepared_shape=(1, 1, 1))
    placed = trace.place_back(np.array([[[1], [2]], [[3], [4]]], np.uint16))
    assert placed.shape == (4, 5, 6)
    assert placed.dtype == np.uint16
    assert placed.flags.c_contiguous
    assert {tuple(place): int(placed[tuple(place)]) for place in np.argwhere(placed).tolist()} == {
        (1, 2, 3): 1,
        (2, 2, 3): 2,
        (1, 2, 4): 3,
        (2, 2, 4): 4,
    }


@given(
    shape=st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 6)),
    order=st.sampled_from(list(permutations(range(3)))),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=50, deadline=None)
def test_place_back_undoes_transpose_and_crop(shape: Triple, order: Triple, seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(1, 9, shape).astype(np.uint8)
    edges = [sorted(rng.integers(0, shape[axis] + 1, 2)) for axis in order]
    box = Box(start=tuple(int(low) for low, _ in edges), stop=tuple(int(high) for _, high in edges))
    kept = labels.transpose(order)[box.slices()]
    trace = Trace(grid=grid(shape_zyx=shape), transpose=order, box=box, prepared_shape=box.shape)
    placed = trace.place_back(kept)
    np.testing.assert_array_equal(placed.transpose(order)[box.slices()], kept)
    assert np.count_nonzero(placed) == kept.size
    assert (placed == labels)[placed > 0].all()


@pytest.mark.parametrize(
    ("direction", "flips"),
    [
        ((1, 0, 0, 0, 1, 0, 0, 0, 1), ()),  # rows to the back, columns to the left: as it is seen
        ((-1, 0, 0, 0, -1, 0, 0, 0, 1), (1, 2)),  # NIfTI's usual RAS: both the other way
        ((1, 0, 0, 0, 0, 1, 0, 1, 0), (1,)),  # coronal slices whose rows run up: head at the top
        ((1, 0, 0, 0, 0, 1, 0, -1, 0), ()),  # and down
        ((0.6, 0.8, 0, -0.8, 0.6, 0, 0, 0, 1), (2,)),  # turned by 53°: x runs to the front more than to the left
    ],
)
def test_slices_are_seen_as_radiologists_do(direction: tuple[float, ...], flips: tuple[int, ...]) -> None:
    grid = Grid(shape_zyx=(4, 5, 6), spacing_mm_zyx=(1.0, 1.0, 1.0), direction=tuple(float(value) for value in direction))
    assert grid.radiological_flips() == flips


@pytest.mark.parametrize(
    ("direction", "letters"),
    [
        ((1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0), "SPL"),
        ((-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0), "SAR"),
        # Array axis x runs along world y (to the back), axis y along world -x (to the right).
        (TURNED, "SRP"),
        # A FreeSurfer volume: x to the left, y down, z to the front.
        ((1.0, 0.0, 0.0, 0.0, 0.0, -1.0, 0.0, -1.0, 0.0), "AIL"),
        # Axes z and y both nearest to S, y by less: it is taken for the other one.
        ((1.0, 0.0, 0.0, 0.0, 0.6, -0.6, 0.0, 0.75, 0.8), "SPL"),
    ],
)
def test_orientation_by_hand(direction: tuple[float, ...], letters: str) -> None:
    assert grid(direction=direction).orientation() == letters


@pytest.mark.parametrize("order", list(permutations(range(3))))
@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, -1), (1, -1, -1), (-1, -1, -1)])
def test_orientation_agrees_with_nibabel(order: tuple[int, ...], signs: tuple[int, ...]) -> None:
    """Slightly oblique axes; nibabel's world is right-anterior-superior, and its axes run x, y, z."""
    rotation = np.linalg.qr(np.eye(3) + 0.2 * np.random.default_rng(0).normal(size=(3, 3)))[0]
    rotation = rotation * np.sign(np.diag(rotation))
    lps = rotation[:, list(order)] * signs
    ras = np.eye(4)
    ras[:3, :3] = np.diag([-1, -1, 1]) @ lps
    assert grid(direction=tuple(lps.ravel().tolist())).orientation() == "".join(nib.aff2axcodes(ras))[::-1]


@pytest.mark.parametrize(("first", "count", "size"), [(-2, 8, 4), (-30, 90, 7), (0, 5, 5), (3, 9, 1), (-9, 3, 2), (100, 4, 6)])
def test_mirror_indices_equal_numpys_padding(first: int, count: int, size: int) -> None:
    expected = np.pad(np.arange(size), 200, mode="symmetric")[200 + first : 200 + first + count]
    assert mirror_indices(first, count, size).tolist() == expected.tolist()
