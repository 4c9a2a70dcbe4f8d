"""Overlap scores against arithmetic by hand and against sets of voxels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autounet.evaluation import overlap as module
from autounet.evaluation.overlap import OverlapScore, overlap
from autounet.labels import LabelSpec, StructureClass


def spec(*values: int, ignore: int | None = None) -> LabelSpec:
    return LabelSpec(classes=tuple(StructureClass(name=f"c{value}", values=(value,)) for value in values), ignore_value=ignore)


def volume(*rows: str) -> np.ndarray:
    return np.array([[int(digit) for digit in row] for row in rows], np.uint8)[None]


def test_two_overlapping_squares() -> None:
    #  truth    prediction
    #  1 1 0    0 1 1      tp = 2, fp = 2, fn = 2
    #  1 1 0    0 1 1      Dice = 2*2 / (2*2 + 2 + 2) = 1/2, IoU = 2 / 6 = 1/3
    score = overlap(volume("011", "011"), volume("110", "110"), spec(1))["c1"]
    assert (score.tp, score.fp, score.fn) == (2, 2, 2)
    assert score.dice == pytest.approx(1 / 2)
    assert score.iou == pytest.approx(1 / 3)


def test_a_voxel_of_the_wrong_class_counts_against_both() -> None:
    #  truth 1 1 2 2, prediction 1 2 2 2
    #  class 1: tp 1, fp 0, fn 1 → Dice 2/3;  class 2: tp 2, fp 1, fn 0 → Dice 4/5
    scores = overlap(volume("1222"), volume("1122"), spec(1, 2))
    assert scores["c1"].dice == pytest.approx(2 / 3)
    assert scores["c2"].dice == pytest.approx(4 / 5)


def test_empty_masks() -> None:
    # Class 1 is nowhere: undefined. Class 2 only in the truth, class 3 only in the prediction: 0.
    scores = overlap(volume("0330"), volume("0200"), spec(1, 2, 3))
    assert scores["c1"] == OverlapScore(dice=None, iou=None, precision=None, recall=None, tp=0, fp=0, fn=0)
    assert scores["c2"] == OverlapScore(dice=0.0, iou=0.0, precision=None, recall=0.0, tp=0, fp=0, fn=1)
    assert scores["c3"] == OverlapScore(dice=0.0, iou=0.0, precision=0.0, recall=None, tp=0, fp=2, fn=0)


def test_voxels_with_the_ignore_value_in_the_truth_are_left_out() -> None:
    #  truth      1 1 9 9 0
    #  prediction 1 0 1 0 1     without the two 9s: tp 1, fp 1, fn 1
    score = overlap(volume("10101"), volume("11990"), spec(1, ignore=9))["c1"]
    assert (score.tp, score.fp, score.fn) == (1, 1, 1)


def test_regions_are_scored_on_their_own_masks() -> None:
    labels = LabelSpec(
        classes=(StructureClass(name="whole", values=(1, 2)), StructureClass(name="core", values=(2,))),
        overlapping=True,
        paint_order=(1, 2),
    )
    #  truth 1 2 2 0, prediction 2 2 1 1: whole tp 3, fp 1, fn 0; core tp 1, fp 1, fn 1
    scores = overlap(volume("2211"), volume("1220"), labels)
    assert (scores["whole"].tp, scores["whole"].fp, scores["whole"].fn) == (3, 1, 0)
    assert (scores["core"].tp, scores["core"].fp, scores["core"].fn) == (1, 1, 1)


def test_values_that_are_no_class_count_as_background() -> None:
    # 7 and -1 are not in the labels: the first prediction voxel is missed, the second is not extra.
    prediction, truth = np.array([[[7, -1, 3]]], np.int16), np.array([[[3, 0, 3]]], np.int16)
    score = overlap(prediction, truth, spec(3))["c3"]
    assert (score.tp, score.fp, score.fn) == (1, 0, 1)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.int64, np.uint64])
def test_every_integer_type_and_large_values(dtype: type) -> None:
    # The labels name values beyond uint8 (and beyond the look-up table), the arrays need not be able to hold them.
    truth, prediction = np.array([[[0, 5, 5, 200]]], dtype), np.array([[[5, 5, 0, 200]]], dtype)
    for labels in (spec(5, 200, 2035), spec(5, 200, 5_000_000)):
        scores = overlap(prediction, truth, labels)
        assert scores["c5"].dice == pytest.approx(1 / 2)
        assert scores["c200"].dice == 1
        assert scores[labels.names[2]].dice is None


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="shape"):
        overlap(volume("11"), volume("111"), spec(1))


VOXELS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=60)


@given(pairs=VOXELS, ignored=st.booleans())
def test_agrees_with_sets_of_voxels(pairs: list[tuple[int, int]], ignored: bool) -> None:
    truth, prediction = (np.array(column).reshape(1, 1, -1) for column in zip(*pairs, strict=True))
    labels = spec(1, 2, 4, ignore=5) if ignored else spec(1, 2, 4)
    scores = overlap(prediction, truth, labels)
    kept = [number for number, (true, _) in enumerate(pairs) if not (ignored and true == 5)]
    for name, value in (("c1", 1), ("c2", 2), ("c4", 4)):
        true = {number for number in kept if pairs[number][0] == value}
        found = {number for number in kept if pairs[number][1] == value}
        score = scores[name]
        assert (score.tp, score.fp, score.fn) == (len(true & found), len(found - true), len(true - found))
        if true | found:
            assert score.dice == pytest.approx(2 * len(true & found) / (len(true) + len(found)))
            assert score.iou == pytest.approx(len(true & found) / len(true | found))
            assert score.dice == pytest.approx(2 * score.iou / (1 + score.iou))
            assert score.precision == (len(true & found) / len(found) if found else None)
            assert score.recall == (len(true & found) / len(true) if true else None)
        else:
            assert score.dice is score.iou is None


def test_counting_in_blocks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    truth, prediction = rng.integers(0, 4, (2, 5, 7, 11))
    whole = overlap(prediction, truth, spec(1, 2, 3, ignore=None))
    monkeypatch.setattr(module, "BLOCK_VOXELS", 17)
    assert overlap(prediction, truth, spec(1, 2, 3)) == whole
