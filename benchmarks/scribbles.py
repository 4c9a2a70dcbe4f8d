"""What training on scribbles reaches, beside training on dense labels of the same cases, for the same length.

``python -m benchmarks.scribbles --data DIR --out DIR [--budget 10m | --epochs 24 --iterations 50]``
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from autounet.layout import RunLayout
from benchmarks.measure import AUTOUNET, CommandFailed, machine, run_measured, show_table, verdict, write_json

DENSE = "Dataset102_Cardiac"
SPARSE = "Dataset103_CardiacScribbles"
UNLABELLED = 4
"""Value of the scribble maps where nobody has looked."""

SHARE_BAR = 0.9
"""Of the dense twin's Dice."""


def make_sparse(dense: Path, folder: Path) -> float:
    """The dataset with its scribbles for labels, as links; returns which share of the voxels is annotated."""
    for name, source in (("imagesTr", "imagesTr"), ("labelsTr", "scribblesTr")):
        (folder / name).mkdir(parents=True)
        for file in sorted((dense / source).iterdir()):
            os.symlink(file, folder / name / file.name)
    description = json.loads((dense / "dataset.json").read_text(encoding="utf-8"))
    description["labels"]["ignore"] = UNLABELLED
    (folder / "dataset.json").write_text(json.dumps(description), encoding="utf-8")
    maps = [np.asarray(nibabel.load(file).dataobj) for file in sorted((folder / "labelsTr").iterdir())]  # type: ignore[attr-defined]
    return float(sum((each != UNLABELLED).sum() for each in maps) / sum(each.size for each in maps))


def train(dataset: Path, out: Path, length: Sequence[str], device: str) -> tuple[float, Path, int]:
    """Fold 0 with the small preset: seconds, folder of the held-out predictions, steps."""
    runs = out / "runs"
    command = [*AUTOUNET, "train", "-d", dataset, "-f", "0", "--preset", "small", *length, "--runs", runs, "--device", device]
    run = run_measured([*command, "-v"], log=out / f"{dataset.name}.log")
    scores = next(RunLayout(runs / dataset.name).models.glob("*/fold_0/scores.json"))
    history = [json.loads(line) for line in scores.with_name("history.jsonl").read_text(encoding="utf-8").splitlines()]
    return run.seconds, scores.parent / "validation", sum(row["iterations"] for row in history)


def score(predictions: Path, dense: Path, out: Path) -> dict[str, Any]:
    """Dice of predictions against the dense labels of the same cases, by the public command."""
    truths = out / "truths"
    truths.mkdir(exist_ok=True)
    for file in predictions.glob("*.nii.gz"):
        if not (truths / file.name).exists():
            os.symlink(dense / "labelsTr" / file.name, truths / file.name)
    command = [*AUTOUNET, "evaluate", "-p", predictions, "-g", truths, "-d", dense, "--json"]
    found: dict[str, Any] = json.loads(run_measured(command, log=out / "evaluate.log").output)
    return found


def main() -> int:
    """The command; 0 when the bar holds."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scribbles", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help=f"folder with {DENSE}")
    parser.add_argument("--out", type=Path, required=True, help="a new folder for runs, logs and the result")
    parser.add_argument("--budget", help="time for each, such as 10m")
    parser.add_argument("--epochs", type=int, default=24, help="without --budget: the same steps for both (default: 24)")
    parser.add_argument("--iterations", type=int, default=50, help="steps an epoch (default: 50)")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    about, out, dense = machine(), arguments.out.resolve(), arguments.data.resolve() / DENSE
    sparse = out / SPARSE
    length = (
        ["--budget", arguments.budget]
        if arguments.budget
        else ["--epochs", str(arguments.epochs), "--iterations", str(arguments.iterations)]
    )
    found: dict[str, Any] = {}
    try:
        annotated = make_sparse(dense, sparse)
        for title, dataset in (("dense labels", dense), ("scribbles", sparse)):
            seconds, predictions, steps = train(dataset, out, length, arguments.device)
            found[title] = {"seconds": seconds, "steps": steps, **score(predictions, dense, out)}
    except CommandFailed as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    names = list(found["scribbles"]["classes"])
    rows = [
        (
            title,
            str(row["steps"]),
            f"{row['seconds']:.0f}",
            *(f"{row['classes'][name]['dice']:.4f}" for name in names),
            f"{row['mean']['dice']:.4f}",
        )
        for title, row in found.items()
    ]
    show_table(f"{DENSE}, fold 0, preset small, {' '.join(length)}", ("trained on", "steps", "seconds", *names, "mean Dice"), rows)
    share = found["scribbles"]["mean"]["dice"] / found["dense labels"]["mean"]["dice"]
    holds = share >= SHARE_BAR
    print(f"annotated voxels: {annotated:.1%}; Dice of scribbles / dense: {share:.3f} (bar {SHARE_BAR}): {verdict(holds)}")
    write_json(
        out / "scribbles.json", {"machine": about, "length": length, "annotated_share": annotated, **found, "share": share, "holds": holds}
    )
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
