"""Targets: the command line, and run folders with one file spoilt, by the commands that users type."""

import json
import logging
import os
import tempfile
import zlib
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from random import Random

import numpy as np

from autounet.checkpoint import save_weights
from autounet.cli.main import run
from autounet.images import write_labels
from autounet.layout import RunLayout
from autounet.networks.build import build_network
from autounet.splits import Splits, five_folds
from benchmarks.fuzz.documents import GRID, small_fingerprint, small_plan, small_scores
from benchmarks.fuzz.models import of_safetensors
from benchmarks.fuzz.mutate import TEXTS, of_bytes, of_json
from benchmarks.fuzz.target import Target

CODES = (0, 1, 2, 130)


def command(*words: str, folder: Path) -> str:
    """Runs a command in this process; it must end with a code that is documented, and without a traceback."""
    logger = logging.getLogger("autounet")
    before = logger.handlers, logger.level, logger.propagate
    here, said = os.getcwd(), ""
    # Files, as real streams are: libraries may ask for their numbers. `main` gives characters that they lack a stand-in.
    opened = partial(tempfile.TemporaryFile, "w+", encoding="utf-8", errors="backslashreplace")
    with opened() as out, opened() as err:
        try:
            os.chdir(folder)
            with redirect_stdout(out), redirect_stderr(err):
                code = run(list(words))
        finally:
            os.chdir(here)
            for handler in logger.handlers:
                handler.close()
            logger.handlers, logger.level, logger.propagate = before
        for stream in (out, err):
            stream.seek(0)
            said += stream.read()
    assert code in CODES, f"exit code {code}: {said[-300:]}"
    assert "Traceback" not in said, said[-500:]
    assert "this is a bug in autounet" not in said, said[-500:]
    assert "\x1b" not in said, f"what moves the cursor: {said[-300:]!r}"
    return said


# Run folders --------------------------------------------------------------------------------------------------------------------


def make_run(folder: Path) -> RunLayout:
    """A run folder with one trained fold, in a second: the weights are those of a fresh network."""
    layout, plan = RunLayout(folder / "runs" / "Dataset001_Livers"), small_plan("3d_fullres")
    layout.root.mkdir(parents=True, exist_ok=True)
    fingerprint = small_fingerprint()
    fingerprint.save(layout.fingerprint)
    plan.save(layout.plan)
    cases = [case.case for case in fingerprint.cases]
    Splits(made_from=Splits.source(cases), folds=five_folds(cases)).save(layout.splits)
    fold = layout.fold("3d_fullres", "0")
    fold.root.mkdir(parents=True, exist_ok=True)
    about = {"plan": plan.recipe("3d_fullres"), "configuration": "3d_fullres", "fold": "0", "epoch": "1"}
    save_weights(fold.weights, build_network(plan.configurations["3d_fullres"].network, seed=0).state_dict(), about)
    held_out = five_folds(cases)[0].validation
    small_scores(held_out).save(fold.scores)
    record = {"epoch": 0, "train_loss": 1.0, "validation_loss": 1.0, "learning_rate": 0.01, "seconds": 1.0, "iterations": 2}
    fold.history.write_text(json.dumps(record) + "\n")
    fold.training.write_text(json.dumps({"initial_weights": None}))
    fold.confidence.write_text(json.dumps({"expected_dice": dict.fromkeys(held_out, 0.5)}))
    layout.manifest.write_text(json.dumps([{"command": ["autounet", "plan", "-d", "1"], "seconds": 1.0, "exit_code": 0}]))
    (folder / "images").mkdir(exist_ok=True)
    write_labels(folder / "images" / "a.nii.gz", np.ones((3, 4, 5), np.uint8), GRID)
    command("report", "-d", "Dataset001_Livers", "--runs", str(folder / "runs"), folder=folder)  # matplotlib makes its own folder once
    return layout


FILES = (
    "plan.json",
    "fingerprint.json",
    "splits.json",
    "manifest.json",
    "models/3d_fullres/fold_0/scores.json",
    "models/3d_fullres/fold_0/history.jsonl",
    "models/3d_fullres/fold_0/training.json",
    "models/3d_fullres/fold_0/confidence.json",
    "models/3d_fullres/fold_0/weights.safetensors",
)
MARK = b"\n"
"""After the first line, which names the file that is spoilt, comes its content."""


def _files(folder: Path) -> dict[str, bytes]:
    layout = make_run(folder)
    return {name: name.encode() + MARK + (layout.root / name).read_bytes() for name in FILES}


def _of_file(data: bytes, random: Random) -> bytes:
    name, mark, content = data.partition(MARK)
    change = (
        of_safetensors if name.endswith(b".safetensors") else of_bytes if name.endswith(b".jsonl") and random.random() < 0.5 else of_json
    )
    return name + mark + change(content, random)


def _use_run(data: bytes, folder: Path) -> None:
    """Exporting, reporting or predicting from a run folder that somebody has given; each writes where it is told and nowhere else."""
    name, _, content = data.partition(MARK)
    layout = RunLayout(folder / "runs" / "Dataset001_Livers")
    wanted = next((known for known in FILES if known.encode() == name), "plan.json")
    target, before = layout.root / wanted, (layout.root / wanted).read_bytes()
    try:
        target.write_bytes(content)
        where = ("--runs", str(folder / "runs"))
        lines = (
            ("export", "--overwrite"),
            ("report",),
            ("predict", "-i", str(folder / "images"), "-o", str(folder / "out"), "--device", "cpu", "--overwrite"),
        )
        name, *rest = lines[zlib.crc32(content) % 3]  # one of them: each takes a while
        command(name, "-d", "Dataset001_Livers", *rest, *where, folder=folder)
    finally:
        target.write_bytes(before)
    made = {path.name for path in folder.iterdir()} - {"runs", "images", "out"}
    assert all(name.endswith(".zip") for name in made), f"made beside the run folder: {made}"


# The command line ---------------------------------------------------------------------------------------------------------------

WORDS = (
    "plan",
    "train",
    "predict",
    "evaluate",
    "report",
    "select",
    "export",
    "import",
    "doctor",
    "run",
    "preprocess",
    "ensemble",
    "--help",
    "-d",
    "-i",
    "-o",
    "-m",
    "-c",
    "-f",
    "-g",
    "-p",
    "--runs",
    "--data",
    "--preset",
    "--epochs",
    "--iterations",
    "--device",
    "cpu",
    "--budget",
    "--workers",
    "--seed",
    "--precision",
    "--json",
    "-q",
    "-v",
    "--folds",
    "--spacing",
    "--patch-size",
    "--batch-size",
    "--init",
    "--name",
    "--gpu-memory",
    "--features",
    "--mirror-axes",
    "--normalization",
    "--checkpoint",
    "--licence",
    "--track",
    "--tolerance",
    "--fingerprint",
    "data",
    "runs",
    "images",
    "images/a.nii.gz",
    "Dataset001_Livers",
    "1",
    "0",
    "all",
    "0,1",
    "1e9",
    "-1",
    "nan",
    "3d_fullres",
    "2d+3d_fullres",
    "10m",
    "1,1,1",
    "0=ct",
    "~",
    "~nobody",
    ".",
    "..",
    "/",
    "/dev/null",
    "odd.json",
    "=",
    "--",
    "-",
    "2d=",
    "small",
    "{}",
)
HARMLESS = ("plan", "predict", "evaluate", "report", "select", "export", "import", "doctor", "ensemble", "preprocess")
"""Commands that end soon whatever is asked for, with what is there."""


def _lines(folder: Path) -> dict[str, bytes]:
    make_run(folder)
    lines = (
        "predict -d 1 -i images -o out --runs runs",
        "plan -d data --preset small",
        "evaluate -p images -g images -d data",
        "report -d 1 --runs runs",
        "export -d 1 -o m.zip --runs runs",
        "import images -o m.zip",
        "doctor -d data",
        "select -d 1 --runs runs",
        "ensemble -i images -o out",
        "preprocess -d data -c 2d",
    )
    return {line.split()[0]: "\0".join(line.split()).encode() for line in lines}


def _of_line(data: bytes, random: Random) -> bytes:
    words = data.split(b"\0")
    for _ in range(random.choice((1, 1, 2, 4))):
        at = random.randrange(1, len(words) + 1)
        word = random.choice((*WORDS, *TEXTS)).encode("utf-8", "surrogatepass").replace(b"\0", b"")
        words[at : at + random.randrange(2)] = [word]
    return b"\0".join(words)


def _type(data: bytes, folder: Path) -> None:
    words = [word.decode("utf-8", "surrogateescape")[:3000] for word in data.split(b"\0")[:40]]
    if words[0] not in HARMLESS or any(word.startswith(("--debug", "--track")) for word in words):
        return
    # Where it may write is chosen by whoever types: what is fuzzed here must not be sent elsewhere.
    words = [word for word in words if not os.path.isabs(word) and ".." not in word and not word.startswith("~")]
    command(*words, folder=folder)


TARGETS = (
    Target("run_folder", "export, report and predict from a run folder with one file spoilt", _files, _use_run, _of_file),
    Target("command_line", "arguments of the commands", _lines, _type, _of_line),
)
