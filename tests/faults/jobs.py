"""The commands that faults are tried on, a tiny dataset for them, and the run folders that each of them begins with."""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.faults.harness import Ended, run

DATASET = "Dataset077_Tiny"
SHORT = ("--epochs", "2", "--iterations", "2", "--device", "cpu", "--precision", "fp32", "--workers", "1")
PREDICT = ("--device", "cpu", "--precision", "fp32", "--workers", "1", "--no-mirror")


@dataclass(frozen=True)
class Job:
    """A command: its name in the table, its arguments, and the jobs that must be done before."""

    name: str
    arguments: tuple[str, ...]
    after: tuple[str, ...] = ()
    code: int = 0
    """What it ends with when nothing goes wrong."""


def _jobs() -> dict[str, Job]:
    d, run_folder = ("-d", DATASET, "--data", "../data"), f"autounet_runs/{DATASET}"
    images = f"../data/{DATASET}/imagesTr"
    both = ("train 2d", "train")
    listed = [
        Job("plan", ("plan", *d, "--workers", "1", "--features", "4,8", "--batch-size", "2")),
        Job("preprocess", ("preprocess", *d, "--workers", "1"), ("plan",)),
        Job("train", ("train", *d, "-f", "0", *SHORT), ("plan",)),
        Job("train 2d", ("train", *d, "-f", "0", "-c", "2d", *SHORT), ("plan",)),
        Job("predict", ("predict", "-i", images, "-o", "out", *PREDICT), ("plan", "train")),
        Job("predict probabilities", ("predict", "-i", images, "-o", "one", "--probabilities", *PREDICT), ("plan", "train")),
        Job("predict uncertainty", ("predict", "-i", images, "-o", "out", "--uncertainty", *PREDICT), ("plan", "train")),
        Job("predict 2d", ("predict", "-i", images, "-o", "two", "--probabilities", "-c", "2d", *PREDICT), ("plan", *both)),
        Job("export", ("export", "-o", "model.zip", "--overwrite"), ("plan", "train")),
        Job("predict bundle", ("predict", "-i", images, "-o", "out", "-m", "model.zip", *PREDICT), ("plan", "train", "export")),
        Job("import", ("import", "../model", "-o", "theirs.zip", "--overwrite")),
        Job("evaluate", ("evaluate", "-p", f"{run_folder}/models/3d_fullres/fold_0/validation", "-g", f"../data/{DATASET}/labelsTr",
                         "--present",
                         "--json", "--csv", "scores.csv", "--latex", "scores.tex", "--workers", "1"), ("plan", "train")),
        Job("select", ("select", *d, "--device", "cpu", "--precision", "fp32", "--workers", "1"), ("plan", *both)),
        Job("ensemble", ("ensemble", "-i", "one", "-i", "two", "-o", "both", "-d", DATASET, "--workers", "1"),
            ("plan", *both, "predict probabilities", "predict 2d")),
        Job("report", ("report", *d), ("plan", "train")),
        Job("doctor", ("doctor", *d, "--workers", "1")),
        Job("run", ("run", *d, "-c", "2d", "-f", "0,1", *SHORT), ("plan",)),
    ]  # fmt: skip
    return {job.name: job for job in listed}


JOBS = _jobs()
PLAYED = [name for name in JOBS if name not in ("train 2d", "predict 2d")]
"""Those that faults are tried on; the others only make what these begin with."""


def write_dataset(root: Path, cases: int = 5) -> Path:
    """Volumes of 12×16×20 voxels with a box of two classes, as nnU-Net lays them out."""
    import nibabel as nib

    rng = np.random.default_rng(0)
    for name in ("imagesTr", "labelsTr"):
        (root / name).mkdir(parents=True)
    for number in range(cases):
        labels = np.zeros((12, 16, 20), np.uint8)
        low = rng.integers(1, 4, 3)
        labels[low[0] : low[0] + 6, low[1] : low[1] + 8, low[2] : low[2] + 10] = 1
        labels[5:7, 7:10, 8:12] = 2
        image = (100 + 40 * labels + 5 * rng.normal(size=labels.shape)).astype(np.int16)
        nib.save(
            nib.Nifti1Image(np.ascontiguousarray(image.T), np.diag([1.0, 1.0, 1.5, 1.0])), root / "imagesTr" / f"box_{number}_0000.nii.gz"
        )
        nib.save(nib.Nifti1Image(np.ascontiguousarray(labels.T), np.diag([1.0, 1.0, 1.5, 1.0])), root / "labelsTr" / f"box_{number}.nii.gz")
    content = {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "box": 1, "core": 2}, "file_ending": ".nii.gz"}
    (root / "dataset.json").write_text(json.dumps({**content, "numTraining": cases}))
    return root


def write_model(root: Path) -> Path:
    """A model folder as nnU-Net writes it."""
    import torch

    from autounet.networks.build import build_network
    from tests.autounet.interop import conftest as nnunet

    fold = root / "nnUNetTrainer__nnUNetPlans__3d_fullres" / "fold_0"
    fold.mkdir(parents=True)
    weights = build_network(nnunet.PLAIN, seed=1).state_dict()
    torch.save(nnunet.checkpoint(nnunet.their_weights(nnunet.PLAIN, weights)), fold / "checkpoint_final.pth")
    for name, content in (("plans.json", nnunet.PLANS), ("dataset.json", nnunet.DATASET)):
        (fold.parent / name).write_text(json.dumps(content), encoding="utf-8")
    return root


class States:
    """What each job begins with, and what it ends with when nothing goes wrong; made once, copied for every trial.

    Args:
        folder: For all of it: ``data``, ``model``, and a folder for every state and trial.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        write_dataset(folder / "data" / DATASET)
        write_model(folder / "model")
        self._made: dict[tuple[str, ...], Path] = {}
        self._number = 0

    def fresh(self, after: tuple[str, ...]) -> Path:
        """A copy of the folder in which these jobs are done."""
        return self._copy(self._state(after))

    def done(self, job: Job) -> tuple[Path, Ended]:
        """A folder in which a job was done undisturbed, after those it needs; and how it ended."""
        folder = self.fresh(job.after)
        ended = run(job.arguments, folder)
        if ended.code != job.code:
            raise AssertionError(f"{job.name} ends with {ended.code}: {ended.text}")
        return folder, ended

    def _state(self, after: tuple[str, ...]) -> Path:
        if after not in self._made:
            if after:
                folder = self._copy(self._state(after[:-1]))
                ended = run(JOBS[after[-1]].arguments, folder)
                if ended.code:
                    raise AssertionError(f"{after[-1]} ends with {ended.code}: {ended.text}")
            else:
                folder = self._new()
                folder.mkdir()
            self._made[after] = folder
        return self._made[after]

    def _copy(self, folder: Path) -> Path:
        return Path(shutil.copytree(folder, self._new()))

    def _new(self) -> Path:
        self._number += 1
        return self.folder / f"trial_{os.getpid()}_{self._number}"
