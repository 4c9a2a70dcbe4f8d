"""What the page says in words: failures, the commands that led here, counts."""

import json
import re
import shutil
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autounet.dataset import read_dataset
from autounet.evaluation import evaluate_cases
from autounet.health.findings import Finding, Health
from autounet.images import read_labels, write_labels
from autounet.layout import RunLayout
from autounet.report.evidence import gather
from autounet.report.page import build_page
from autounet.report.results import main_results, pool
from autounet.report.sections import Sections, make_sections
from autounet.runtime import Runtime

ALONE = Runtime(device="cpu", workers=0)


@pytest.fixture
def layout(boxes: Any, tmp_path: Path) -> RunLayout:
    """A copy of the run folder."""
    return RunLayout(Path(shutil.copytree(boxes.layout.root, tmp_path / "run")))


def sections(layout: RunLayout) -> Sections:
    evidence = gather(layout)
    results = pool(evidence)
    return make_sections(evidence, results, main_results(results))


def words(page: str) -> str:
    """The text of a page, without its data and scripts."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", re.sub(r"<(script|style).*?</\1>", "", page, flags=re.DOTALL))).split())


def empty(layout: RunLayout, boxes: Any, folds: range) -> None:
    """Predictions of these folds find nothing, and are scored so."""
    dataset = read_dataset(boxes.root)
    for fold in folds:
        folder = layout.fold("3d_fullres", str(fold))
        files = {case.id: (path, case.label) for case in dataset.cases if (path := folder.validation / f"{case.id}.nii.gz").exists()}
        for path, _ in files.values():
            labels, grid = read_labels(path)
            path.unlink()
            write_labels(path, np.zeros_like(labels), grid)
        evaluate_cases(files, dataset.labels, ALONE).save(folder.scores)


def test_a_model_that_finds_nothing_is_named_first(layout: RunLayout, boxes: Any) -> None:
    assert sections(layout).failures == ()
    empty(layout, boxes, range(1))
    (some,) = sections(layout).failures
    assert re.fullmatch(r"Nothing but background is predicted in 4 of 16 held-out cases of 3d_fullres: look at .* and 1 more below\.", some)
    empty(layout, boxes, range(1, 4))
    page = words(build_page(gather(layout), read_dataset(boxes.root), ALONE))
    said = "Nothing but background is predicted in 16 of 16 held-out cases of 3d_fullres: train longer."
    assert page.index(said) < page.index("What is missing")
    assert "Defined in no case, so without a column: Precision, HD95, ASSD." in page


def test_commands_that_ended_well_led_here(layout: RunLayout) -> None:
    """``run`` has an entry for each of its stages: one that failed in training led nowhere, though it has planned."""
    entries = [
        ("plan -d 1", "done"),
        ("plan -d 2", "failed"),
        ("run -d 1 --dry-run", "done"),
        ("run -d 1", "done"),
        ("run -d 1", "failed"),
        ("train -d 1 -f 0", "interrupted"),
        ("train -d 1 -f 0", "done"),
        ("run -d 3", "done"),
        ("run -d 3", "done"),
        ("select -d 1 --help", "done"),
        ("plan -d 1", "done"),
    ]
    layout.manifest.write_text(json.dumps([{"command": ["autounet", *text.split()], "status": status} for text, status in entries]))
    found = sections(layout)
    assert found.recipe.splitlines() == ["autounet train -d 1 -f 0", "autounet run -d 3", "autounet plan -d 1"]
    assert len(found.commands) == len(entries), "the record of all is complete"


@pytest.mark.parametrize(("number", "shown"), [(1, "1 finding in 20 cases"), (2, "2 findings in 20 cases")])
def test_one_finding_is_no_findings(layout: RunLayout, number: int, shown: str) -> None:
    findings = tuple(Finding(case=f"{place}", kind="island", severity="severe", what="a", advice="b") for place in range(number))
    Health(made_from={}, dataset="boxes", cases=20, findings=findings).save(layout.health)
    assert shown in words(build_page(gather(layout), None, ALONE))
