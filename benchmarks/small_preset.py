"""What the small preset reaches on a CPU in minutes, with the public commands, on three datasets.

``python -m benchmarks.small_preset --data DIR --out DIR [hippocampus] [em] [cardiac]``
"""

import argparse
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from PIL import Image

from autounet.dataset import DatasetSpec, read_dataset
from autounet.evaluation.scores import Scores
from autounet.layout import FoldLayout, RunLayout
from autounet.splits import Splits
from benchmarks.measure import AUTOUNET, CommandFailed, machine, run_measured, show_table, verdict, write_json

FOLD = "0"
OVERTIME = 1.1
"""Wall time of ``train``, planning and preparing included, may be so many times the budget."""


@dataclass(frozen=True, slots=True)
class Check:
    """Something that must hold, and what was found."""

    what: str
    found: str
    holds: bool


@dataclass(frozen=True, slots=True)
class Trained:
    """A trained fold, for the checks."""

    dataset: DatasetSpec
    configuration: str
    layout: FoldLayout
    runs: Path
    held_out: tuple[str, ...]
    device: str


@dataclass(frozen=True, slots=True)
class Task:
    """A dataset, the time it gets, and what must come out."""

    folder: str
    minutes: float
    dice: float
    """Least mean Dice of the held-out cases."""
    check_plan: Callable[[dict[str, Any]], list[Check]]
    """Checks of the plan with the ``nnunet`` preset, as ``autounet plan --json`` prints it."""
    check_result: Callable[[Trained], list[Check]]


@dataclass(slots=True)
class Outcome:
    """What came out."""

    task: str
    train_seconds: float
    peak_mb: float | None
    mean_dice: float | None
    class_dice: dict[str, float | None]
    cases: int
    bar: float
    checks: list[Check] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Every check holds."""
        return all(check.holds for check in self.checks)


def check_hippocampus_plan(plan: dict[str, Any]) -> list[Check]:
    """nnU-Net 2.8.1's plan of all 260 cases at 8 GB."""
    return [
        _planned(plan, "3d_fullres", {"patch_size": [40, 56, 40], "batch_size": 9, "features": [32, 64, 128, 256]}),
        _planned(plan, "2d", {"patch_size": [56, 40], "batch_size": 366}),
    ]


def check_em_plan(plan: dict[str, Any]) -> list[Check]:
    """Planar images have nothing for a 3D network."""
    names = list(plan["configurations"])
    return [Check("plan has 2d only", ", ".join(names), names == ["2d"])]


def check_cardiac_plan(plan: dict[str, Any]) -> list[Check]:
    """Thick slices: a flat patch."""
    return [_planned(plan, "3d_fullres", {"patch_size": [10, 256, 224]})]


def check_png_predictions(trained: Trained) -> list[Check]:
    """Predicts the first two held-out images from their files alone; the results are PNG label maps of the images' sizes."""
    images = {case.id: case.images for case in trained.dataset.cases if case.id in trained.held_out[:2]}
    inputs, outputs = trained.runs.parent / "images", trained.runs.parent / "predictions"
    inputs.mkdir()
    for file in (path for files in images.values() for path in files):
        shutil.copy(file, inputs)
    command: list[str | Path] = [*AUTOUNET, "predict", "-i", inputs, "-o", outputs, "--runs", trained.runs, "--device", trained.device]
    run_measured(command, log=trained.runs.parent / "predict.log")
    allowed, found = set(trained.dataset.labels.allowed_values), []
    for case, files in images.items():
        path = outputs / f"{case}.png"
        if not path.is_file():
            found.append(f"{path.name} is missing")
            continue
        with Image.open(path) as written, Image.open(files[0]) as image:
            values = set(np.unique(np.asarray(written)).tolist())
            if written.size != image.size or not values <= allowed:
                found.append(f"{path.name}: size {written.size}, values {sorted(values)[:5]}")
    return [Check("predict writes PNG label maps", "; ".join(found) or f"{len(images)} files", not found)]


def check_geometry(trained: Trained) -> list[Check]:
    """Every validation prediction has exactly its image's size, affine and voxel size."""
    different = []
    cases = [case for case in trained.dataset.cases if case.id in trained.held_out]
    for case in cases:
        image: Any = nibabel.load(case.images[0])
        path = trained.layout.validation / f"{case.id}{trained.dataset.file_ending}"
        if not path.is_file():
            different.append(f"{path.name} is missing")
            continue
        written: Any = nibabel.load(path)
        same = (
            written.shape == image.shape[:3]
            and np.array_equal(written.affine, image.affine)
            and written.header.get_zooms()[:3] == image.header.get_zooms()[:3]
        )
        if not same:
            different.append(path.name)
    found = f"{len(cases) - len(different)} of {len(cases)} equal" + (f"; not: {', '.join(different[:3])}" if different else "")
    return [Check("geometry of the predictions", found, not different)]


TASKS = {
    "hippocampus": Task("Task04_Hippocampus", 15, 0.86, check_hippocampus_plan, check_geometry),
    "em": Task("Dataset101_EM", 10, 0.75, check_em_plan, check_png_predictions),
    "cardiac": Task("Dataset102_Cardiac", 10, 0.60, check_cardiac_plan, check_geometry),
}


def run_task(name: str, task: Task, data: Path, out: Path, budget_seconds: float, device: str) -> Outcome:
    """Plans with both presets, trains the fold with the small one, and checks what came out.

    Raises:
        CommandFailed: A command failed, or ``out`` has results of an earlier run.
    """
    folder, dataset = out / name, data / task.folder
    if folder.exists():
        raise CommandFailed(f"{folder} is there already; every measurement starts from nothing: remove it or name another --out")
    spec = read_dataset(dataset)
    command: list[str | Path] = [*AUTOUNET, "plan", "-d", dataset, "--preset", "nnunet", "--json", "--runs", folder / "nnunet"]
    checks = task.check_plan(json.loads(run_measured(command, log=folder / "plan.log").output))
    runs, budget = folder / "runs", f"{budget_seconds:g}s"
    command = [*AUTOUNET, "train", "-d", dataset, "-f", FOLD, "--preset", "small", "--budget", budget, "--runs", runs, "--device", device]
    run = run_measured([*command, "-v"], log=folder / "train.log")
    layout = RunLayout(runs / spec.name)
    scores_file = next(layout.models.glob(f"*/fold_{FOLD}/scores.json"))
    scores = Scores.load(scores_file)
    checks.append(Check("mean Dice", f"{_digits(scores.mean.dice)}, at least {task.dice}", (scores.mean.dice or 0.0) >= task.dice))
    late = f"{run.seconds:.0f} s for a budget of {budget_seconds:.0f} s"
    checks.append(Check("time", late, run.seconds <= OVERTIME * budget_seconds))
    held_out = Splits.load(layout.splits).folds[int(FOLD)].validation
    fold = FoldLayout(scores_file.parent)
    checks += task.check_result(Trained(spec, scores_file.parent.parent.name, fold, runs, held_out, device))
    return Outcome(
        task=name,
        train_seconds=run.seconds,
        peak_mb=run.peak_mb,
        mean_dice=scores.mean.dice,
        class_dice={label: score.dice for label, score in scores.classes.items()},
        cases=len(scores.cases),
        bar=task.dice,
        checks=checks,
    )


def show(outcome: Outcome) -> None:
    """One dataset's table and checks."""
    rows = [(label, _digits(dice)) for label, dice in outcome.class_dice.items()]
    rows.append((f"mean (bar {outcome.bar})", _digits(outcome.mean_dice)))
    show_table(f"{outcome.task}: {outcome.cases} held-out cases, {outcome.train_seconds:.0f} s", ("class", "Dice"), rows)
    for check in outcome.checks:
        print(f"{check.what}: {check.found}: {verdict(check.holds)}")
    sys.stdout.flush()


def _planned(plan: dict[str, Any], name: str, expected: dict[str, Any]) -> Check:
    entry = plan["configurations"].get(name, {})
    found = {key: entry.get(key, entry.get("architecture", {}).get(key)) for key in expected}
    return Check(f"plan of {name}", ", ".join(f"{key} {value}" for key, value in found.items()), found == expected)


def _digits(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def main() -> int:
    """The command; 0 when every bar holds."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.small_preset", description=__doc__.splitlines()[0])
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=f"of {', '.join(TASKS)} (default: all)")
    parser.add_argument("--data", type=Path, required=True, help=f"folder with {', '.join(task.folder for task in TASKS.values())}")
    parser.add_argument("--out", type=Path, required=True, help="folder for runs, logs and results; each task needs a fresh one")
    parser.add_argument("--budget", type=float, metavar="SECONDS", help="other training time than the bar's, to try this script")
    parser.add_argument("--device", default="cpu", help="default: cpu, which the bars are for")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.tasks if name not in TASKS]
    if unknown:
        parser.error(f"no such task: {', '.join(unknown)} (there are {', '.join(TASKS)})")
    data, out = arguments.data.resolve(), arguments.out.resolve()
    holds = True
    for name in arguments.tasks or TASKS:
        task, about = TASKS[name], machine()
        seconds = arguments.budget or task.minutes * 60
        try:
            outcome = run_task(name, task, data, out, seconds, arguments.device)
        except CommandFailed as error:
            print(f"error: {name}: {error}", file=sys.stderr)
            holds = False
            continue
        show(outcome)
        holds = holds and outcome.holds
        result = {"machine": about, "budget_seconds": seconds, **asdict(outcome), "holds": outcome.holds}
        write_json(out / f"{name}.json", result)
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
