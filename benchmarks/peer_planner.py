"""Runs in nnU-Net's environment, for ``benchmarks/planner_parity.py``: plans one dataset after another from fingerprints alone.

Reads one JSON object per line: ``dataset`` (dataset.json), ``fingerprint`` (dataset_fingerprint.json), ``planner`` (class name),
``memory_gb``, ``filled`` and ``limit_seconds``. Answers each with a line: ``plans`` (its plans file), ``networks`` (inputs and outputs
of every configuration's network, as nnU-Net's training asks for them) and ``seconds`` of this process, or ``failed`` with the reason.

Unless ``filled``, the networks that nnU-Net builds while it searches for a patch get no weights (torch's meta device): their
sizes, all that it asks them for, are the same, and a plan takes a tenth of the time.
"""

import contextlib
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.experiment_planning.experiment_planners.residual_unets import residual_encoder_unet_planners
from nnunetv2.paths import nnUNet_preprocessed, nnUNet_raw
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

NAME = "Dataset999_Parity"


class OutOfTimeError(BaseException):
    """Planning took too long; no error that nnU-Net would catch."""


def main() -> None:
    """Answers until the input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # nnU-Net prints what it does: off the answers' way
    torch.set_num_threads(1)
    for line in sys.stdin:
        job = json.loads(line)
        write_files(job)
        began = time.process_time()
        try:
            with limited(job["limit_seconds"]), open(os.devnull, "w") as nothing, contextlib.redirect_stdout(nothing):
                plans = plan(job)
                seconds = time.process_time() - began
                answer = {"plans": plans, "networks": networks(plans, job["dataset"]), "seconds": seconds}
        except OutOfTimeError:
            answer = {"failed": "out of time", "seconds": time.process_time() - began}
        except Exception as error:
            answer = {"failed": f"{type(error).__name__}: {error}", "seconds": time.process_time() - began}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def write_files(job: dict[str, Any]) -> None:
    """The two files that a planner reads, in fresh folders: it would keep configurations of an older plan."""
    for folder, name, content in ((nnUNet_raw, "dataset", "dataset"), (nnUNet_preprocessed, "dataset_fingerprint", "fingerprint")):
        place = Path(folder) / NAME
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        value = job[content]
        if content == "dataset":
            # Named reader and listed case: it looks for no image.
            case = {"images": ["none"], "label": "none"}
            value = {**value, "overwrite_image_reader_writer": "SimpleITKIO", "dataset": {"case": case}}
        (place / f"{name}.json").write_text(json.dumps(value), encoding="utf-8")


def plan(job: dict[str, Any]) -> dict[str, Any]:
    """nnU-Net's plans file for a dataset."""
    name = job["planner"]
    planner_class = ExperimentPlanner if name == "ExperimentPlanner" else getattr(residual_encoder_unet_planners, name)
    planner = planner_class(NAME, gpu_memory_target_in_gb=job["memory_gb"])
    with contextlib.nullcontext() if job["filled"] else torch.device("meta"):
        planner.plan_experiment()
    plans: dict[str, Any] = json.loads((Path(nnUNet_preprocessed) / NAME / f"{planner.plans_identifier}.json").read_text(encoding="utf-8"))
    return plans


def networks(plans: dict[str, Any], dataset: dict[str, Any]) -> dict[str, list[int]]:
    """Inputs and outputs of each configuration's network."""
    manager = PlansManager(plans)
    outputs = manager.get_label_manager(dataset).num_segmentation_heads
    found = {}
    for name in plans["configurations"]:
        found[name] = [determine_num_input_channels(manager, manager.get_configuration(name), dataset), outputs]
    return found


@contextlib.contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raises OutOfTimeError in the block after so many seconds."""

    def stop(*_: Any) -> None:
        raise OutOfTimeError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


if __name__ == "__main__":
    main()
