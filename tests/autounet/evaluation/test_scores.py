"""Means over cases and classes, the public JSON, the artefact."""

import json
from pathlib import Path

import pytest

from autounet.errors import ArtefactError
from autounet.evaluation.case import ClassScore
from autounet.evaluation.overlap import OverlapScore
from autounet.evaluation.scores import ALL_METRICS, METRICS, Scores

# Class a: Dice 2*3/(2*3+1+1) = 0.75 and 0 → mean 0.375. Class b: undefined and 1 → mean 1. Class c: undefined everywhere.
CASES = {
    "k1": {"a": OverlapScore.from_counts(3, 1, 1), "b": OverlapScore.from_counts(0, 0, 0), "c": OverlapScore.from_counts(0, 0, 0)},
    "k2": {"a": OverlapScore.from_counts(0, 0, 4), "b": OverlapScore.from_counts(5, 0, 0), "c": OverlapScore.from_counts(0, 0, 0)},
}


def test_undefined_scores_are_left_out_of_the_means() -> None:
    scores = Scores.of(CASES)
    assert scores.classes["a"].dice == pytest.approx(0.375)
    assert scores.classes["a"].iou == pytest.approx((3 / 5 + 0) / 2)
    assert scores.classes["b"].dice == 1
    assert scores.classes["c"].dice is None
    assert scores.mean.dice == pytest.approx((0.375 + 1) / 2)
    assert scores.case_mean("k1").dice == pytest.approx(0.75)
    assert scores.case_mean("k2").dice == pytest.approx(0.5)


def test_means_are_none_when_nothing_is_defined() -> None:
    scores = Scores.of({"k": {"a": OverlapScore.from_counts(0, 0, 0)}})
    assert scores.mean.dice is None
    assert Scores.of({}).mean.iou is None


def test_public_json_has_the_documented_shape() -> None:
    public = json.loads(json.dumps(Scores.of(CASES, tolerance_mm=2.0, volume_unit="mm3").to_public(), allow_nan=False))
    assert list(public) == ["mean", "classes", "cases", "tolerance_mm", "volume_unit"]
    assert (public["tolerance_mm"], public["volume_unit"]) == (2.0, "mm3")
    assert list(public["mean"]) == [*ALL_METRICS, "over"]
    assert [public["mean"][metric] for metric in METRICS] == pytest.approx([0.6875, 0.65])
    assert list(public["classes"]["a"]) == [*ALL_METRICS, "over", "missed", "invented"]
    assert [public["classes"]["c"][metric] for metric in ALL_METRICS] == [None] * 9
    assert list(public["cases"]["k1"]["a"]) == list(ClassScore.model_fields)
    assert [public["cases"]["k1"]["a"][name] for name in ("dice", "iou", "tp", "fp", "fn")] == [0.75, 0.6, 3, 1, 1]
    assert public["cases"]["k1"]["b"]["dice"] is None


def test_means_say_over_how_many_cases_they_are() -> None:
    """Distances are undefined where a class is missed, in k2, or invented, in k3; a mean of k1 alone says so."""
    cases = {
        "k1": {"a": ClassScore.from_counts(3, 1, 1).model_copy(update={"hd95_mm": 4.0, "nsd": 0.5})},
        "k2": {"a": ClassScore.from_counts(0, 0, 4).model_copy(update={"nsd": 0.0})},
        "k3": {"a": ClassScore.from_counts(0, 2, 0).model_copy(update={"nsd": 0.0})},
        "k4": {"a": ClassScore.from_counts(0, 0, 0)},
    }
    mean = Scores.of(cases).classes["a"]
    assert (mean.hd95_mm, mean.over["hd95_mm"]) == (4.0, 1)
    assert (mean.nsd, mean.over["nsd"]) == (pytest.approx(0.5 / 3), 3)
    assert (mean.precision, mean.over["precision"]) == (pytest.approx(0.75 / 2), 2)  # k2 has no predicted voxels
    assert (mean.recall, mean.over["recall"]) == (pytest.approx(0.75 / 2), 2)  # k3 has no true ones
    assert (mean.assd_mm, mean.over["assd_mm"]) == (None, 0)
    assert (mean.missed, mean.invented) == (1, 1)


def test_scores_of_the_first_version_say_how_to_get_new_ones() -> None:
    old = json.loads(Scores.of(CASES).to_json()) | {"schema_version": 1}
    with pytest.raises(ArtefactError, match=r"another version: found 1, expected 2\. Run `autounet train` for this fold again"):
        Scores.from_json(json.dumps(old), "scores.json")


def test_artefact_survives_the_disk_and_refuses_what_is_malformed(tmp_path: Path) -> None:
    scores = Scores.of(CASES, made_from={"weights": "0123456789abcdef"})
    scores.save(tmp_path / "scores.json")
    assert Scores.load(tmp_path / "scores.json") == scores
    text = scores.to_json().replace('"dice": 0.75', '"dice": "high"')
    with pytest.raises(ArtefactError, match="malformed"):
        Scores.from_json(text, "scores.json")
    with pytest.raises(ArtefactError, match="malformed"):
        Scores.from_json(scores.to_json().replace('"dice": 0.75', '"dice": NaN'), "scores.json")


def test_every_case_must_have_every_class() -> None:
    with pytest.raises(ValueError, match="k2"):
        Scores.of({"k1": CASES["k1"], "k2": {"a": CASES["k2"]["a"]}})
