"""Lesions found and missed: against arithmetic by hand, and against components walked voxel by voxel."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autounet.evaluation.lesions import LesionMatch


def plane(*rows: str) -> np.ndarray:
    return np.array([[character == "#" for character in line] for line in rows])


def test_found_missed_and_false() -> None:
    truth = plane("##...##...#", "##...##....")
    prediction = plane(
        ".##..##....", ".##......#."
    )  # touches the first with 2 of its voxels; the second in part; the last is beside the true voxel, not on it
    match = LesionMatch.of(prediction, truth)
    assert (match.true, match.found, match.false) == (3, 2, 1)
    assert match.f1() == pytest.approx(2 * 2 / (2 * 2 + 1 + 1))
    # Dice 2*2/(4+4) and 2*2/(4+2); the missed and the false one count as 0.
    assert match.dice() == pytest.approx((1 / 2 + 2 / 3 + 0 + 0) / 4)


def test_one_prediction_over_two_lesions_and_two_over_one() -> None:
    bridge = LesionMatch.of(plane("#####"), plane("##.##"))
    assert (bridge.true, bridge.found, bridge.false) == (2, 2, 0)
    assert bridge.f1() == 1
    assert bridge.dice() == pytest.approx(2 * 2 / (2 + 5))  # each true lesion against all that touches it
    split = LesionMatch.of(plane("##.##"), plane("#####"))
    assert (split.true, split.found, split.false) == (1, 1, 0)
    assert split.dice() == pytest.approx(2 * 4 / (5 + 4))


def test_corners_connect() -> None:
    """Two voxels that share a corner are one lesion: 8 neighbours in the plane, 26 in a volume."""
    flat = np.eye(2, dtype=bool)
    assert LesionMatch.of(~flat & flat, flat).true == 1
    corner = np.zeros((2, 2, 2), bool)
    corner[0, 0, 0] = corner[1, 1, 1] = True
    assert LesionMatch.of(corner, corner).true == 1


def test_empty_masks() -> None:
    nothing, one = plane("..."), plane(".#.")
    assert (LesionMatch.of(nothing, nothing).f1(), LesionMatch.of(nothing, nothing).dice()) == (None, None)
    missed, false = LesionMatch.of(nothing, one), LesionMatch.of(one, nothing)
    assert (missed.true, missed.found, missed.false, missed.f1(), missed.dice()) == (1, 0, 0, 0, 0)
    assert (false.true, false.found, false.false, false.f1(), false.dice()) == (0, 0, 1, 0, 0)


def components(mask: np.ndarray) -> list[set[tuple[int, ...]]]:
    """Walks from voxel to voxel."""
    left, found = {tuple(int(value) for value in voxel) for voxel in np.argwhere(mask)}, []
    while left:
        waiting, seen = [left.pop()], set()
        while waiting:
            here = waiting.pop()
            seen.add(here)
            near = {tuple(a + b for a, b in zip(here, step, strict=True)) for step in product((-1, 0, 1), repeat=mask.ndim)} & left
            left -= near
            waiting.extend(near)
        found.append(seen)
    return found


@given(
    shape=st.lists(st.integers(1, 6), min_size=2, max_size=3),
    filled=st.tuples(st.floats(0, 0.5), st.floats(0, 0.5)),
    seed=st.integers(0, 2**32 - 1),
)
def test_agrees_with_sets_of_voxels(shape: list[int], filled: tuple[float, float], seed: int) -> None:
    rng = np.random.default_rng(seed)
    prediction, truth = (rng.random(shape) < part for part in filled)
    predicted, true = components(prediction), components(truth)
    touching = [set().union(*(lesion for lesion in predicted if lesion & one)) for one in true]
    found = sum(bool(all_of_it) for all_of_it in touching)
    false = sum(not any(lesion & one for one in true) for lesion in predicted)
    dice = [2 * len(one & all_of_it) / (len(one) + len(all_of_it)) for one, all_of_it in zip(true, touching, strict=True)]
    match = LesionMatch.of(prediction, truth)
    assert (match.true, match.found, match.false) == (len(true), found, false)
    if true or false:
        assert match.dice() == pytest.approx(sum(dice) / (len(true) + false))
        assert match.f1() == pytest.approx(2 * found / (2 * found + (len(true) - found) + false))
    else:
        assert match.dice() is match.f1() is None
