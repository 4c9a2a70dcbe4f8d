"""The commands that the documents show are run, and the page of options is the program's own."""

import importlib.util
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autounet.cli.main import app, run
from autounet.images import read_labels, write_labels
from autounet.phantom import write_phantom

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def shown_commands(document: Path) -> list[list[str]]:
    """The ``$ autounet …`` lines of a document's console blocks, without the program's name."""
    blocks = re.findall(r"^```console\n(.*?)^```", document.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    lines = [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ autounet ")]
    return [shlex.split(line)[1:] for line in lines]


def test_the_page_of_options_is_up_to_date() -> None:
    spec = importlib.util.spec_from_file_location("make_command_line", ROOT / "docs" / "make_command_line.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    written = module.PAGE.read_text(encoding="utf-8")
    assert written == module.page(), "run python docs/make_command_line.py"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_option_that_is_shown_exists(document: Path) -> None:
    """Each command line in a document is parsed by the program, up to the point where it would begin to work."""
    from typer.main import get_command

    group = get_command(app)
    for arguments in shown_commands(document):
        command: Any = group
        names = list(arguments)
        while hasattr(command, "commands"):  # a group
            command = command.commands[names.pop(0)]
        context = command.make_context(arguments[0], names)  # raises for an unknown or missing option
        assert context.params


@pytest.mark.slow
def test_the_tutorial_runs_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """Every command of the tutorial in order, in an empty folder. Only the training time is cut to one step."""
    monkeypatch.chdir(tmp_path)
    commands = shown_commands(ROOT / "docs" / "tutorial.md")
    assert [arguments[0] for arguments in commands] == ["demo", "plan", "train", "predict", "evaluate"]
    write_phantom(Path("autounet_demo/data"))  # what `autounet demo` begins with; the demo itself is these same commands
    for arguments in commands[1:]:
        if "--budget" in arguments:
            place = arguments.index("--budget")
            arguments[place : place + 2] = ["--epochs", "1", "--iterations", "1"]
        assert run(arguments) == 0, shlex.join(arguments)
    written = sorted(path.name for path in Path("tutorial_predictions").glob("[!.]*"))
    truths = sorted(path.name for path in Path("autounet_demo/data/Dataset001_Phantom/labelsTs").iterdir())
    assert written == truths
    assert "mean Dice" in capfd.readouterr().out


def test_the_planning_page_runs_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """Every command of the page on a generated dataset, with the files it speaks of. Training is left out."""
    monkeypatch.chdir(tmp_path)
    write_phantom(Path("data"))
    page = ROOT / "docs" / "how-to" / "planning.md"
    own = re.search(r"^```json\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    assert own is not None
    Path("wide.json").write_text(own.group(1))
    reference = ROOT.parent / "shared" / "reference" / "msd" / "Dataset004_Hippocampus"
    files = {"dataset_fingerprint.json": "dataset_fingerprint.json", "dataset.json": "dataset.json", "plans_plain.json": "nnUNetPlans.json"}
    for there, here in files.items():
        if reference.exists():
            Path(here).write_text((reference / there).read_text())
    assert run(["plan", "-d", "data/Dataset001_Phantom", "--preset", "small"]) == 0
    Path("old_plan.json").write_text(Path("autounet_runs/Dataset001_Phantom/plan.json").read_text())
    commands = [arguments for arguments in shown_commands(page) if arguments[0] == "plan"]
    assert len(commands) >= 9
    for arguments in commands:
        if any(word in ("nnUNetPlans.json", "--fingerprint") for word in arguments) and not reference.exists():
            continue
        arguments = [{"Task04": "data/Dataset001_Phantom"}.get(word, word) for word in arguments]
        assert run([*arguments, *([] if "--fingerprint" in arguments else ["--reset"])]) == 0, shlex.join(arguments)
    assert "(chosen by you)" in capfd.readouterr().out


EVALUATING = ROOT / "docs" / "how-to" / "evaluating.md"


def test_the_page_on_evaluating_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """Every command and script of the page on the demo's data. The truth is the prediction, but for one case without its lesions."""
    monkeypatch.chdir(tmp_path)
    write_phantom(Path("autounet_demo/data"))
    truths = Path("autounet_demo/data/Dataset001_Phantom/labelsTr")
    shutil.copytree(truths, "predictions")
    labels, grid = read_labels(truths / "phantom_003.nii.gz")
    assert (labels == 4).any()
    write_labels(Path("predictions/phantom_003.nii.gz"), np.where(labels == 4, 0, labels).astype(np.uint8), grid)
    for arguments in shown_commands(EVALUATING):
        assert run(arguments) == 0, shlex.join(arguments)
    shown = capfd.readouterr().out
    assert "lesion: missed in 1, invented in 0" in shown
    assert "normalised surface Dice at 2 mm" in shown
    assert r"large\_organ & 1.000 $\pm$ 0.000" in Path("scores.tex").read_text()
    for script in blocks(EVALUATING, "python"):
        subprocess.run([sys.executable, "-c", script], check=True)
    largest, lesions, distance = capfd.readouterr().out.splitlines()
    assert largest.startswith("largest HD95: 0.0 mm")
    assert int(lesions.removeprefix("lesions found: ")) > 0
    assert distance.startswith("0.0 ")


PARTIAL_LABELS = ROOT / "docs" / "how-to" / "partial-labels.md"


def blocks(document: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", document.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def commands_without_training(document: Path) -> list[list[str]]:
    return [arguments for arguments in shown_commands(document) if arguments[0] != "train"]


def test_some_classes_in_some_cases_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """The first half of the page on partial labels, on the demo's data. Training is left out: the truth is the prediction."""
    monkeypatch.chdir(tmp_path)
    plan, evaluate, *_ = commands_without_training(PARTIAL_LABELS)
    write_phantom(Path("autounet_demo/data"))
    root = Path("autounet_demo/data/Dataset001_Phantom")
    (root / "dataset.json").write_text(blocks(PARTIAL_LABELS, "json")[0])
    assert run(plan) == 1
    assert "found 'vessel' (3), 'lesion' (4), expected large_organ, small_organ" in " ".join(
        capfd.readouterr().err.replace("│", " ").split()
    )
    subprocess.run([sys.executable, "-c", blocks(PARTIAL_LABELS, "python")[0]], check=True)
    assert run(plan) == 0
    assert "2 of 12 cases in part" in capfd.readouterr().out
    shutil.copytree(root / "labelsTr", "predictions")
    assert run([*evaluate, "--json"]) == 0
    cases = json.loads(capfd.readouterr().out)["cases"]
    assert [cases[case]["vessel"]["dice"] for case in ("phantom_002", "phantom_003")] == [None, 1.0]


def test_some_voxels_as_written(tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """The second half, on two hearts."""
    monkeypatch.chdir(tmp_path)
    copying, choosing = blocks(PARTIAL_LABELS, "sh")
    *_, plan, evaluate = commands_without_training(PARTIAL_LABELS)
    hearts = shared / "data" / "Dataset102_Cardiac"
    for folder, ending in (("imagesTr", "_0000"), ("labelsTr", ""), ("scribblesTr", "")):
        Path("Dataset102_Cardiac", folder).mkdir(parents=True)
        for case in ("patient001_frame01", "patient002_frame01"):
            shutil.copy(hearts / folder / f"{case}{ending}.nii.gz", Path("Dataset102_Cardiac", folder))
    shutil.copy(hearts / "dataset.json", "Dataset102_Cardiac")
    subprocess.run(["bash", "-e", "-c", copying], check=True)
    Path("Dataset103_Scribbles/dataset.json").write_text(blocks(PARTIAL_LABELS, "json")[1])
    assert run(plan) == 0
    predicted = Path(evaluate[evaluate.index("-p") + 1])
    predicted.mkdir(parents=True)
    shutil.copy("Dataset102_Cardiac/labelsTr/patient001_frame01.nii.gz", predicted)
    subprocess.run(["bash", "-e", "-c", choosing], check=True)
    capfd.readouterr()
    assert run([*evaluate, "--json"]) == 0
    cases = json.loads(capfd.readouterr().out)["cases"]
    assert list(cases) == ["patient001_frame01"]
    assert {name: score["dice"] for name, score in cases["patient001_frame01"].items()} == {"RV": 1.0, "MYO": 1.0, "LV": 1.0}


def test_checking_data_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """The page on checking data, on the demo's data, in which nothing is wrong."""
    monkeypatch.chdir(tmp_path)
    page = ROOT / "docs" / "how-to" / "checking-data.md"
    write_phantom(Path("data"), train=8, test=0)
    Path("data/Dataset001_Phantom").rename("Task04_Hippocampus")
    for arguments in shown_commands(page):
        assert run(arguments) == 0
    assert "8 cases examined, nothing found" in capfd.readouterr().out
    subprocess.run([sys.executable, "-c", blocks(page, "python")[0]], check=True)


def test_the_report_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """The page on the report, on the demo's data before any training."""
    monkeypatch.chdir(tmp_path)
    write_phantom(Path("data"), train=5, test=0)
    Path("data/Dataset001_Phantom").rename("Task04_Hippocampus")
    assert run(["plan", "-d", "Task04", "--preset", "small"]) == 0
    capfd.readouterr()
    for arguments in shown_commands(ROOT / "docs" / "how-to" / "report.md"):
        assert run(arguments) == 0
    assert capfd.readouterr().out.startswith("Written to autounet_runs/Task04_Hippocampus/report.html (")
    assert "Nothing is trained yet" in Path("autounet_runs/Task04_Hippocampus/report.html").read_text(encoding="utf-8")


def test_ones_own_data_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """The page's files and table, on the demo's data under other names. Training is left out."""
    monkeypatch.chdir(tmp_path)
    page = ROOT / "docs" / "how-to" / "own-data.md"
    write_phantom(Path("data"), train=8, test=0)
    source = Path("data/Dataset001_Phantom")
    for number, patient in enumerate(["ct/Müller", "ct/Ng", "ct/c", "ct/d", "ct/e", "ct/f", "new/g", "new/h"]):
        Path(patient).mkdir(parents=True)
        for name in ("T1", "T2"):
            shutil.copy(sorted((source / "imagesTr").iterdir())[number], f"{patient}/{name}.nii.gz")
        labels, grid = read_labels(sorted((source / "labelsTr").iterdir())[number])
        write_labels(Path(f"{patient}/seg.nii.gz"), np.minimum(labels, 2), grid)
    table = re.search(r"^```\n(id;.*?)^```", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    assert table is not None
    Path("cases.csv").write_text(table[1], encoding="utf-8")
    names = ["Müller", "Ng", "c", "d", "e", "f"]
    Path("splits_final.json").write_text(json.dumps([{"train": names[:3], "val": names[3:]}]))
    for arguments in shown_commands(page):
        if arguments[0] != "train":
            assert run(arguments) == 0, shlex.join(arguments)
    out = capfd.readouterr().out
    assert "1 fold, yours, of splits_final.json" in out
    assert "2 cases more, 8 now: g, h" in out
