"""Scores for other programs: CSV and LaTeX."""

import csv
from pathlib import Path

import pytest

from autounet.errors import ArtefactError
from autounet.evaluation.case import ClassScore
from autounet.evaluation.scores import Scores
from autounet.evaluation.tables import write_csv, write_latex


def found(tp: int, fp: int, fn: int, **more: float) -> ClassScore:
    return ClassScore(**{**ClassScore.from_counts(tp, fp, fn).model_dump(), **more})


# Dice of "left_part" 3/4 and 1/2, mean 5/8, standard deviation (1/4) / sqrt 2 = 0.1768. "100% #2" has one case, "nowhere" none.
SCORES = Scores.of(
    {
        "k1": {"left_part": found(3, 1, 1, hd95_mm=2.0, nsd=0.25), "100% #2": found(1, 0, 0), "nowhere": found(0, 0, 0)},
        "k2": {"left_part": found(1, 1, 1, hd95_mm=5.0, nsd=0.75), "100% #2": found(0, 0, 0), "nowhere": found(0, 0, 0)},
    },
    tolerance_mm=0.5,
    volume_unit="mm3",
)


def test_csv_has_one_row_per_case_and_class(tmp_path: Path) -> None:
    write_csv(SCORES, tmp_path / "scores.csv")
    rows = list(csv.DictReader((tmp_path / "scores.csv").read_text(encoding="utf-8").splitlines()))
    assert list(rows[0]) == ["case", "class", *ClassScore.model_fields, "nsd_tolerance_mm", "volume_unit"]
    assert [(row["case"], row["class"]) for row in rows] == [(case, name) for case in ("k1", "k2") for name in SCORES.classes]
    shown = {name: rows[0][name] for name in ("dice", "iou", "tp", "fp", "fn", "hd95_mm", "assd_mm", "nsd_tolerance_mm", "volume_unit")}
    assert shown == {
        "dice": "0.75", "iou": "0.6", "tp": "3", "fp": "1", "fn": "1", "hd95_mm": "2.0", "assd_mm": "", "nsd_tolerance_mm": "0.5",
        "volume_unit": "mm3",
    }  # fmt: skip
    assert rows[2]["dice"] == ""


def latex(tmp_path: Path) -> str:
    write_latex(SCORES, tmp_path / "scores.tex")
    return (tmp_path / "scores.tex").read_text(encoding="utf-8")


def test_latex_has_means_and_spreads(tmp_path: Path) -> None:
    lines = latex(tmp_path).splitlines()
    assert r"Class & Dice & IoU & Precision & Recall & HD95 (mm) & NSD (0.5 mm) \\" in lines
    left = next(line for line in lines if line.startswith(r"left\_part"))
    assert left.startswith(r"left\_part & 0.625 $\pm$ 0.177 & 0.467 $\pm$ 0.189 & ")
    assert left.endswith(r" & 3.50 $\pm$ 2.12 & 0.500 $\pm$ 0.354 \\")
    assert r"100\% \#2 & 1.000 & 1.000 & 1.000 & 1.000 & -- & -- \\" in lines
    assert r"nowhere & -- & -- & -- & -- & -- & -- \\" in lines
    assert lines[-3] == r"Mean & 0.812 & 0.733 & 0.812 & 0.812 & 3.50 & 0.500 \\"
    assert "% 100% #2: Dice of 1, IoU of 1, Precision of 1, Recall of 1, HD95 (mm) of 0, NSD of 0; missed in 0, invented in 0" in lines


def test_latex_rows_have_as_many_cells_as_there_are_columns(tmp_path: Path) -> None:
    text = latex(tmp_path)
    assert r"\begin{tabular}{lrrrrrr}" in text
    rows = [line for line in text.splitlines() if line.endswith(r"\\") and not line.startswith("%")]
    assert [line.count(" & ") for line in rows] == [6] * 5


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for write in (write_csv, write_latex):
        with pytest.raises(ArtefactError, match="cannot be written"):
            write(SCORES, tmp_path / "file" / "scores")
