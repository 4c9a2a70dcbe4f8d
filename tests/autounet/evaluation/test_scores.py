"""Means over cases and classes, the public JSON, the CSV file."""

import csv
import json
from pathlib import Path

import pytest

from autounet.errors import ArtefactError
from autounet.evaluation.overlap import OverlapScore
from autounet.evaluation.scores import Scores

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
    public = json.loads(json.dumps(Scores.of(CASES).to_public(), allow_nan=False))
    assert list(public) == ["mean", "classes", "cases"]
    assert public["mean"] == {"dice": pytest.approx(0.6875), "iou": pytest.approx(0.65)}
    assert public["classes"]["c"] == {"dice": None, "iou": None}
    assert public["cases"]["k1"]["a"] == {"dice": 0.75, "iou": 0.6, "tp": 3, "fp": 1, "fn": 1}
    assert public["cases"]["k1"]["b"]["dice"] is None


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


def test_csv_has_one_row_per_case_and_class(tmp_path: Path) -> None:
    Scores.of(CASES).to_csv(tmp_path / "scores.csv")
    rows = list(csv.DictReader((tmp_path / "scores.csv").read_text(encoding="utf-8").splitlines()))
    assert len(rows) == 6
    assert rows[0] == {"case": "k1", "class": "a", "dice": "0.75", "iou": "0.6", "tp": "3", "fp": "1", "fn": "1"}
    assert rows[1]["dice"] == ""
