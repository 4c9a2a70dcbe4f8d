"""nnU-Net's own trained models, predicted by nnU-Net and by us: are the label maps the same, and who is faster?

    python -m benchmarks.nnunet_models --peer PEER --data DATA --models FOLDER [NAME ...]

``FOLDER`` gets the models, trained by nnU-Net for a few steps each (``peer_models.py``); those that are there are used as they are.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import Measured, machine, median_ratio, run_measured, show_table, verdict, write_json
from benchmarks.peer import Peer, make_peer
from benchmarks.peer_dataset import as_nnunet_raw

DATASETS = ("Task04_Hippocampus", "Dataset101_EM", "Dataset102_Cardiac")

VARIANTS: dict[str, dict[str, Any]] = {
    "Dataset904_HippocampusRegions": {"labels": {"background": 0, "whole": [1, 2], "posterior": 2}, "regions_class_order": [1, 2]},
    "Dataset905_HippocampusCascade": {},
}
"""Smaller copies of Hippocampus, and what their dataset.json says otherwise."""

VARIANT_CASES = 16

SAME_VOXELS, SAME_DICE, MOST_TIME = 0.9999, 0.999, 0.5
"""The bars: voxels of the same label in float32; Dice between the two outputs in our usual precision, and our part of nnU-Net's time."""


@dataclass(frozen=True, slots=True)
class Row:
    """One trained configuration and cases to predict."""

    dataset: str
    configuration: str
    cases: int
    plans: str = "nnUNetPlans"
    folds: tuple[str, ...] = ("0",)
    previous: str | None = None

    @property
    def group(self) -> str:
        """What the model is called in the folder of its dataset."""
        return f"nnUNetTrainer__{self.plans}"


ROWS = {
    "hippocampus 3d_fullres, 2 folds": Row("Dataset004_Hippocampus", "3d_fullres", 4, folds=("0", "1")),
    "hippocampus 2d": Row("Dataset004_Hippocampus", "2d", 6),
    "hippocampus ResEnc M": Row("Dataset004_Hippocampus", "3d_fullres", 4, plans="nnUNetResEncUNetMPlans"),
    "hippocampus regions": Row("Dataset904_HippocampusRegions", "3d_fullres", 4),
    "cardiac 2d": Row("Dataset102_Cardiac", "2d", 3),
    "cardiac 3d_fullres": Row("Dataset102_Cardiac", "3d_fullres", 3),
    "em 2d": Row("Dataset101_EM", "2d", 2),
    "hippocampus cascade": Row("Dataset905_HippocampusCascade", "3d_cascade_fullres", 4, previous="3d_lowres"),
}

TIMED = Row("Dataset004_Hippocampus", "3d_fullres", 52)
"""All validation cases of fold 0."""


def make_raw(data: Path, raw: Path) -> None:
    """nnU-Net's raw folders of all datasets that are not there yet."""
    for name in DATASETS:
        number = int("".join(letter for letter in name.partition("_")[0] if letter.isdigit()))
        if not any(raw.glob(f"Dataset{number:03d}_*")):
            as_nnunet_raw(data / name, raw)
    whole = raw / "Dataset004_Hippocampus"
    for name, changes in VARIANTS.items():
        if (raw / name).exists():
            continue
        for part in ("imagesTr", "labelsTr"):
            (raw / name / part).mkdir(parents=True)
            for file in sorted((whole / part).iterdir())[:VARIANT_CASES]:
                (raw / name / part / file.name).symlink_to(file)
        about = json.loads((whole / "dataset.json").read_text(encoding="utf-8"))
        (raw / name / "dataset.json").write_text(json.dumps(about | {"numTraining": VARIANT_CASES} | changes), encoding="utf-8")


def predict_theirs(peer: Peer, models: Path, row: Row, images: Path, output: Path, exact: bool = False) -> Measured:
    """``nnUNetv2_predict``; of a cascade first its first stage. ``exact`` adds up in float32."""
    program: tuple[str | Path, ...] = ("python", "-m", "benchmarks.peer_predict") if exact else ("nnUNetv2_predict",)
    before: tuple[str | Path, ...] = ()
    if row.previous is not None:
        first = Row(row.dataset, row.previous, row.cases, row.plans, row.folds)
        predict_theirs(peer, models, first, images, output.with_name(f"{output.name}_previous"), exact)
        before = ("-prev_stage_predictions", output.with_name(f"{output.name}_previous"))
    choice = ("-d", str(int(row.dataset[7:10])), "-c", row.configuration, "-p", row.plans, "-f", *row.folds)
    machine_options = ("-device", "cpu", "-npp", "1", "-nps", "1", "--disable_progress_bar")
    command = (*program, "-i", images, "-o", output, *choice, *machine_options, *before)
    return peer.run(command, models, output.with_suffix(".log"))


def predict_ours(models: Path, row: Row, images: Path, output: Path, precision: str) -> Measured:
    """Our command: until `autounet import` and `predict -m` are there, this script as a program of its own."""
    job = json.dumps({"model": str(models / "results" / row.dataset), "group": row.group, "configuration": row.configuration,
                      "folds": row.folds, "images": str(images), "output": str(output), "precision": precision})  # fmt: skip
    return run_measured((sys.executable, "-m", "benchmarks.nnunet_models", "--job", job), log=output.with_suffix(".log"))


def run_job(job: dict[str, Any]) -> None:
    """Reads a model of nnU-Net's and predicts a folder with it, in this process."""
    from autounet.inference.model import Ensemble, Model, Stage
    from autounet.inference.run import PredictionJob, predict_cases
    from autounet.interop.nnunet_model import read_nnunet_model
    from autounet.runtime import Runtime

    name = f"{job['group']}__{job['configuration']}"
    model = read_nnunet_model(Path(job["model"]) / name, folds=job["folds"])
    runtime, key, stages = Runtime(device="cpu", precision=job["precision"]), job["configuration"], list[Stage]()
    while key is not None:
        configuration = model.plan.configurations[key]
        ensemble = Ensemble(configuration.network, list(model.weights[key].items()), runtime)
        stages.insert(0, Stage(configuration, ensemble))
        device, key = ensemble.device, configuration.previous_stage
    ending, output = model.plan.file_ending, Path(job["output"])
    output.mkdir(parents=True)
    files = sorted(Path(job["images"]).glob(f"*_0000{ending}"))
    jobs = [PredictionJob(path.name, (path,), output / path.name.replace(f"_0000{ending}", ending)) for path in files]
    problems = predict_cases(Model(model.plan, tuple(stages), device), jobs, runtime)
    if problems:
        raise SystemExit("\n".join(problem.what for problem in problems))


def link_cases(raw: Path, row: Row, folder: Path, cases: Sequence[str] | None = None) -> None:
    """Links to the images of some cases of a dataset, by default evenly chosen."""
    folder.mkdir(parents=True)
    files = sorted((raw / row.dataset / "imagesTr").iterdir())
    if cases is None:
        chosen = [files[round(position)] for position in np.linspace(0, len(files) - 1, row.cases)]
    else:
        chosen = [file for file in files if file.name.rpartition("_0000")[0] in set(cases)]
    for file in chosen:
        (folder / file.name).symlink_to(file.resolve())


@dataclass(frozen=True, slots=True)
class Agreement:
    """Two folders of label maps, compared."""

    cases: int
    same: float
    """Part of all voxels that have the same label."""
    different: int
    """Voxels that have not."""
    foreground: float
    """Part of nnU-Net's voxels that are foreground: nothing is proved where that is 0."""
    dice: float
    """Smallest over the labels, voxels of all cases together."""


def compare(theirs: Path, ours: Path, ending: str) -> Agreement:
    """Compares all files of one folder with those of the same names in another."""
    from autounet.images import read_labels

    voxels = same = foreground = 0
    both: dict[int, int] = {}
    each: dict[int, int] = {}
    files = sorted(theirs.glob(f"*{ending}"))
    for file in files:
        one, other = read_labels(file)[0], read_labels(ours / file.name)[0]
        if one.shape != other.shape:
            raise SystemExit(f"{file.name}: nnU-Net's {one.shape}, ours {other.shape}")
        voxels, same, foreground = voxels + one.size, same + int((one == other).sum()), foreground + int((one > 0).sum())
        for value in set(np.unique(one)) | set(np.unique(other)):
            both[value] = both.get(value, 0) + int(((one == value) & (other == value)).sum())
            each[value] = each.get(value, 0) + int((one == value).sum()) + int((other == value).sum())
    dice = min((2 * both[value] / each[value] for value in both if value), default=1.0)
    return Agreement(len(files), same / voxels, voxels - same, foreground / voxels, dice)


def measure_row(peer: Peer, models: Path, name: str, scratch: Path) -> dict[str, Any]:
    """Both predictions of one row in float32; where labels differ too much, also nnU-Net's with float32 sums."""
    row, folder = ROWS[name], scratch / name.replace(" ", "_").replace(",", "")
    link_cases(models / "raw", row, folder / "images")
    ending = json.loads((models / "raw" / row.dataset / "dataset.json").read_text(encoding="utf-8"))["file_ending"]
    theirs = predict_theirs(peer, models, row, folder / "images", folder / "theirs")
    ours = predict_ours(models, row, folder / "images", folder / "ours", "fp32")
    found = compare(folder / "theirs", folder / "ours", ending)
    predict_theirs(peer, models, row, folder / "images", folder / "exact", exact=True)
    exact = compare(folder / "exact", folder / "ours", ending)
    return {
        "row": name, "cases": found.cases, "same": found.same, "different": found.different, "foreground": found.foreground,
        "dice": found.dice, "same_as_exact": exact.same, "different_from_exact": exact.different,
        "seconds_theirs": theirs.seconds, "seconds_ours": ours.seconds, "holds": found.same >= SAME_VOXELS and found.foreground > 0,
    }  # fmt: skip


def measure_time(peer: Peer, models: Path, scratch: Path, repeats: int, precision: str) -> dict[str, Any]:
    """Both commands on the validation cases of fold 0, in turns."""
    splits = json.loads((models / "preprocessed" / TIMED.dataset / "splits_final.json").read_text(encoding="utf-8"))
    link_cases(models / "raw", TIMED, scratch / "timed", splits[0]["val"])
    theirs, ours = list[Measured](), list[Measured]()
    for repeat in range(repeats):
        for mine in (repeat % 2 == 0, repeat % 2 == 1):
            output = scratch / f"timed_{'ours' if mine else 'theirs'}_{repeat}"
            if mine:
                ours.append(predict_ours(models, TIMED, scratch / "timed", output, precision))
            else:
                theirs.append(predict_theirs(peer, models, TIMED, scratch / "timed", output))
    found = compare(scratch / "timed_theirs_0", scratch / "timed_ours_0", ".nii.gz")
    ratio = median_ratio([one.seconds for one in ours], [one.seconds for one in theirs])
    return {
        "cases": found.cases, "precision": precision,
        "seconds_theirs": [one.seconds for one in theirs], "seconds_ours": [one.seconds for one in ours],
        "peak_mb_theirs": [one.peak_mb for one in theirs], "peak_mb_ours": [one.peak_mb for one in ours],
        "ratio": ratio, "dice": found.dice, "different": found.different, "same": found.same,
        "holds": ratio <= MOST_TIME and found.dice >= SAME_DICE,
    }  # fmt: skip


def show(rows: Sequence[dict[str, Any]], timed: dict[str, Any] | None) -> None:
    """Prints the tables."""
    columns = ("model", "cases", "foreground", "same labels", "differ", "differ, float32 sums", "holds")
    cells = [
        (row["row"], str(row["cases"]), f"{row['foreground']:.2%}", f"{row['same']:.6%}", str(row["different"]),
         str(row["different_from_exact"]), verdict(row["holds"]))
        for row in rows
    ]  # fmt: skip
    show_table(f"Label maps, ours in float32 beside nnU-Net's (bar: {SAME_VOXELS:.2%} of the voxels)", columns, cells)
    if timed is not None:
        seconds = [f"{min(timed[key]):.1f}–{max(timed[key]):.1f}" for key in ("seconds_theirs", "seconds_ours")]
        line = (f"{timed['cases']} cases", *seconds, f"{timed['ratio']:.2f}", f"{timed['dice']:.5f}", verdict(timed["holds"]))
        title = f"Hippocampus, fold 0, whole commands (bars: {MOST_TIME} of the time, Dice {SAME_DICE})"
        show_table(title, ("", "nnU-Net s", "ours s", "ratio", "Dice", "holds"), [line])


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.nnunet_models", description=__doc__)
    parser.add_argument("--job", type=json.loads, help=argparse.SUPPRESS)
    parser.add_argument("--peer", type=Path, help="nnU-Net's environment")
    parser.add_argument("--data", type=Path, help="folder of the datasets")
    parser.add_argument("--models", type=Path, help="folder of the trained models; made if it is missing")
    parser.add_argument("--repeats", type=int, default=3, help="of the timing; 0 for none")
    parser.add_argument("--precision", default="auto", help="of our timed predictions")
    parser.add_argument("--json", type=Path, default=Path("benchmark_results/nnunet_models.json"))
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"by default all: {'; '.join(ROWS)}")
    arguments = parser.parse_args()
    if arguments.job is not None:
        run_job(arguments.job)
        return 0
    if unknown := set(arguments.rows) - set(ROWS):
        parser.error(f"no such row: {', '.join(unknown)}")
    peer, models, about = make_peer(arguments.peer), arguments.models.resolve(), machine()
    (models / "raw").mkdir(parents=True, exist_ok=True)
    make_raw(arguments.data, models / "raw")
    peer.run(("python", "-m", "benchmarks.peer_models"), models, models / "training.log")
    with tempfile.TemporaryDirectory() as folder:
        rows = [measure_row(peer, models, name, Path(folder)) for name in arguments.rows or ROWS]
        timed = measure_time(peer, models, Path(folder), arguments.repeats, arguments.precision) if arguments.repeats else None
    show(rows, timed)
    write_json(arguments.json, {"machine": about, "rows": rows, "time": timed})
    return 0 if all(row["holds"] for row in rows) and (timed is None or timed["holds"]) else 1


if __name__ == "__main__":
    raise SystemExit(main())
