"""What the page says once a model is selected and the dataset examined."""

import base64
import io
import re
import shutil
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from autounet.dataset import read_dataset
from autounet.evaluation.scores import Scores
from autounet.health.findings import Finding, Health
from autounet.layout import RunLayout
from autounet.postprocessing import FillHoles, KeepLargest
from autounet.report import findings as findings_module
from autounet.report.evidence import gather
from autounet.report.findings import findings_section
from autounet.report.page import build_page, page_digest
from autounet.report.results import main_results, pool
from autounet.runtime import Runtime
from autounet.selection import Candidate, Comparison, Decision, Interval, Selection

ALONE = Runtime(device="cpu", workers=0)
JOINED = "2d+3d_fullres"


def words(page: str) -> str:
    """The text of a page, without its data and scripts."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", re.sub(r"<(script|style).*?</\1>", "", page, flags=re.DOTALL))).split())


@pytest.fixture
def layout(boxes: Any, tmp_path: Path) -> RunLayout:
    """A copy of the run folder."""
    return RunLayout(Path(shutil.copytree(boxes.layout.root, tmp_path / "run")))


def select(layout: RunLayout, chosen: str) -> None:
    names = gather(layout).fingerprint.labels.names
    configurations = (JOINED, "3d_fullres", "2d")
    candidates = tuple(
        Candidate(
            name=name, configurations=tuple(name.split("+")), dice=Interval(value=0.8 - place / 10, low=0.5, high=0.9),
            classes=dict.fromkeys(names, 0.75), cost=12345.6,
        )
        for place, name in enumerate(configurations)
    )  # fmt: skip
    tried = (
        Decision(step=FillHoles(kind="fill_holes", values=(1,)), kept=True, mean_before=0.71, mean_after=0.72),
        Decision(step=KeepLargest(values=(1, 2)), kept=False, mean_before=0.72, mean_after=0.7, worse=("box",)),
    )
    Selection(
        made_from={}, rule="best", folds=("0",), cases=4, missing=("2d lacks folds 1, 2",), candidates=candidates, chosen=chosen,
        reason="the highest mean Dice", postprocessing=(tried[0].step,), decisions=tried, dice_before=0.71, dice_after=0.72,
        comparisons=(
            Comparison(first=JOINED, second="2d", difference=Interval(value=0.2, low=0.1, high=0.3), p_value=0.031, cases=4),
        ),
    ).save(layout.selection)  # fmt: skip


def join(layout: RunLayout, boxes: Any) -> None:
    """Label maps and scores of an ensemble: those of the first fold of ``3d_fullres``."""
    fold = layout.fold("3d_fullres", "0")
    shutil.copytree(fold.validation, layout.ensemble(JOINED))
    Scores.load(fold.scores).save(layout.ensemble(JOINED) / "scores.json")


def test_before_a_selection_it_says_how_to_make_one(page: str) -> None:
    assert "Not selected yet: run autounet select ." in words(page)
    assert "autounet predict -i images/ -o predictions/ -d Dataset021_Boxes -c 3d_fullres" in words(page)


def test_which_model_was_selected_and_why(layout: RunLayout, boxes: Any) -> None:
    before = page_digest(gather(layout), True)
    select(layout, "2d")
    evidence = gather(layout)
    assert page_digest(evidence, True) != before, "the page is made anew"
    text = words(build_page(evidence, None, ALONE))
    for told in (
        "2d : the highest mean Dice. Rule: best, on 4 held-out cases.",
        "0.6000 [0.5000, 0.9000] 0.7500 0.7500 +0.2000 [0.1000, 0.3000] 0.031 12,346",
        "holes in box are filled Mean Dice 0.7100 without, 0.7200 with it",
        "only the largest component of the whole foreground is kept no 0.7200 0.7000 box",
        "2d lacks folds 1, 2",
        "autounet predict -i images/ -o predictions/ -d Dataset021_Boxes Copy Make one file",
    ):
        assert told in text, told


def test_the_page_shows_the_cases_of_the_selected_model(layout: RunLayout, boxes: Any) -> None:
    select(layout, "2d")
    evidence = gather(layout)
    main = main_results(pool(evidence), "2d")
    assert main is not None
    assert (main.configuration, len(main.rows)) == ("2d", 4)
    assert "cases of 2d by their mean Dice" in words(build_page(evidence, read_dataset(boxes.root), ALONE))


def test_an_ensemble_has_scores_and_slices_of_its_own(layout: RunLayout, boxes: Any) -> None:
    join(layout, boxes)
    select(layout, JOINED)
    evidence = gather(layout)
    results = {entry.configuration: entry for entry in pool(evidence)}
    assert set(results) == {"2d", "3d_fullres", JOINED}
    assert {row.fold for row in results[JOINED].rows} == {"0"}, "by the splits: an ensemble has no folds of its own"
    text = build_page(evidence, read_dataset(boxes.root), ALONE)
    assert f"cases of {JOINED} by their mean Dice" in words(text)
    assert text.count('<script type="application/json" id="case-') == 4


def examine(layout: RunLayout, number: int = 1) -> None:
    layout.health_pictures.mkdir()
    Image.new("RGB", (8, 6), "red").save(layout.health_pictures / "1.png")
    findings = tuple(
        Finding(
            case=f"case_{place}", kind="island", severity="severe", what="an island of <b>7</b> voxels", advice="remove it", picture="1.png"
        )
        for place in range(number)
    )
    Health(made_from={}, dataset="Dataset021_Boxes", cases=20, findings=findings).save(layout.health)


def test_before_an_examination_it_says_how_to_make_one(page: str) -> None:
    assert "Not examined yet: run autounet doctor" in words(page)


def test_findings_with_their_pictures(layout: RunLayout) -> None:
    before = page_digest(gather(layout), True)
    examine(layout)
    assert page_digest(gather(layout), True) != before
    page = build_page(gather(layout), None, ALONE)
    assert "severe Island: case_0 An island of <b>7</b> voxels. What to do: remove it." in words(page)
    (picture,) = re.findall(r'<img src="data:image/png;base64,([^"]+)" alt="Where this is to be seen in case_0"', page)
    assert Image.open(io.BytesIO(base64.b64decode(picture))).size == (8, 6)


def test_pictures_of_many_findings_keep_to_their_room(layout: RunLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    examine(layout, number=100)
    monkeypatch.setattr(findings_module, "MOST_PICTURE_BYTES", 1000)
    section = findings_section(gather(layout))
    pictures = [finding.picture for finding in section.shown if finding.picture]
    assert 0 < sum(map(len, pictures)) <= 1000 + len("data:image/png;base64,")
    assert (len(section.shown), section.left_out) == (80, 20)


def test_nothing_found_is_said_too(layout: RunLayout) -> None:
    Health(made_from={}, dataset="Dataset021_Boxes", cases=20, findings=()).save(layout.health)
    assert "Nothing suspicious in 20 cases." in words(build_page(gather(layout), None, ALONE))
