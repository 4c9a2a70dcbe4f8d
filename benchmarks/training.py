"""Seconds of a training step, ours and nnU-Net's in one run; what loading batches adds to it; and what augmenting one takes.

``python -m benchmarks.training --dataset PATH --peer DIR [-c 3d_fullres] [--steps 6] [--rounds 3]``
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

import autounet.training.loader as loader_module
from autounet.device import pick_precision
from autounet.layout import FoldLayout, RunLayout
from autounet.plan import Plan
from autounet.preprocessing.run import open_cases
from autounet.runtime import Runtime
from autounet.splits import five_folds
from autounet.training.job import FoldJob
from autounet.training.learner import Learner
from autounet.training.loader import Batch, BatchLoader
from autounet.training.patches import patch_sizes
from autounet.training.schedule import Length
from benchmarks import augmentation
from benchmarks.measure import (
    AUTOUNET,
    REPOSITORY,
    CommandFailed,
    machine,
    median_ratio,
    run_measured,
    show_table,
    verdict,
    write_json,
)  # fmt: skip
from benchmarks.peer import PINNED, Peer, make_peer

WARM_UP = 2
AUGMENTED = 30
"""Batches of each round."""
STEP_BAR = 2.0
"""nnU-Net's step takes at least so many times ours (in bf16, where the CPU has its instructions)."""

LOADER_BAR = 1.05
"""A step with its batch read and augmented takes at most so many times one on a batch that is there."""


def job_of(plan: Plan, runs: RunLayout, configuration: str, augmentation: Any, scratch: Path) -> FoldJob:
    """Fold 0 of a prepared dataset, for a learner that is stepped by hand."""
    entry = plan.configurations[configuration]
    cases = sorted(path.stem for path in runs.prepared(configuration).glob("*.json"))
    store, stored = open_cases(plan, entry, runs.prepared(configuration), five_folds(cases)[0].train)
    sizes = patch_sizes(entry, augmentation)
    loader = BatchLoader(
        store, stored, batch_size=entry.batch_size, loaded=sizes.loaded, patch_size=sizes.scored, workers=2, stream=0, seed=0
    )  # fmt: skip
    return FoldJob(
        configuration=entry,
        labels=plan.labels,
        train=loader,
        validation=None,
        layout=FoldLayout(scratch),
        about={},
        length=Length(),
        reserve=lambda seconds: 0.0,
        on_epoch=lambda history, left: None,
        augmentation=augmentation,
    )


def seconds_of(learner: Learner, batches: Iterator[Batch], steps: int) -> list[float]:
    """Seconds of each step after a warm-up."""
    return [step_seconds(learner, batches, step) for step in range(WARM_UP + steps)][WARM_UP:]


def step_seconds(learner: Learner, batches: Iterator[Batch], step: int) -> float:
    """Seconds of one step, the time to get its batch included."""
    began = time.perf_counter()
    loss, _ = learner.step(next(batches), 0, step, 0.01)
    float(loss)
    return time.perf_counter() - began


def again(batch: Batch) -> Generator[Batch]:
    """The same batch for ever."""
    while True:
        yield batch


@contextmanager
def kept_on_disk() -> Iterator[None]:
    """Within, loaders keep no cases in memory."""
    share = loader_module.CACHE_SHARE
    loader_module.CACHE_SHARE = 0.0
    try:
        yield
    finally:
        loader_module.CACHE_SHARE = share


def peer_seconds(peer: Peer, plan: Plan, configuration: str, precision: str, steps: int, scratch: Path) -> list[float]:
    """nnU-Net's network, loss and optimizer of the same plan, in its own environment. Raises CommandFailed."""
    entry = plan.configurations[configuration]
    job = {
        "network": entry.network.model_dump(mode="json"),
        "patch_size": entry.patch_size,
        "batch_size": entry.batch_size,
        "batch_dice": entry.batch_dice,
        "precision": precision,
        "steps": steps,
        "warm_up": WARM_UP,
        "threads": torch.get_num_threads(),
    }
    command: list[str | Path] = ["python", REPOSITORY / "benchmarks" / "peer_step.py", json.dumps(job)]
    found: list[float] = json.loads(peer.run(command, scratch, scratch / f"step_{precision}.log").output.splitlines()[-1])
    return found


def augmentation_seconds(peer: Peer, dataset: Path, scratch: Path) -> dict[str, list[float]]:
    """Augmenting a batch of Hippocampus' plan on one core: ours and nnU-Net's, the same patches."""
    image, labels = augmentation.hippocampi(dataset)
    patches = scratch / "patches.npz"
    np.savez(patches, image=image.numpy(), labels=labels.numpy())
    found = {
        "augmentation, autounet": augmentation.our_seconds(image, labels, AUGMENTED),
        "augmentation, nnU-Net": augmentation.peer_seconds(peer, patches, AUGMENTED, scratch),
    }
    return {name: [wall for wall, _ in seconds] for name, seconds in found.items()}


def measure(plan: Plan, runs: RunLayout, arguments: argparse.Namespace, peer: Peer, scratch: Path) -> dict[str, list[list[float]]]:
    """Seconds of steps by what was timed, one list per round, taken in turns."""
    name, steps = arguments.configuration, arguments.steps
    bare, whole = job_of(plan, runs, name, "none", scratch), job_of(plan, runs, name, "nnunet", scratch)
    with kept_on_disk():
        from_disk = job_of(plan, runs, name, "nnunet", scratch)
    # Without instructions for it, bf16 is emulated many times slower and nobody would use it.
    has_bf16 = pick_precision(Runtime(), torch.device("cpu")) == torch.bfloat16
    precisions = ("fp32", "bf16") if has_bf16 else ("fp32",)
    found: dict[str, list[list[float]]] = {}
    for _ in range(arguments.rounds):
        for precision in precisions:
            learner = Learner(bare, Runtime(device="cpu", precision=precision))
            batch = next(bare.train.batches(0, 1))
            found.setdefault(f"autounet {precision}", []).append(seconds_of(learner, again(batch), steps))
            found.setdefault(f"nnU-Net {precision}", []).append(peer_seconds(peer, plan, name, precision, steps, scratch))
        learner = Learner(whole, Runtime(device="cpu"))
        batch = next(whole.train.batches(0, 1))
        rounds: dict[str, Generator[Batch]] = {
            "augmented, batch there": again(batch),
            "augmented, from memory": whole.train.batches(1, 1000),
            "augmented, from disk": from_disk.train.batches(1, 1000),
        }
        # Step by step in turns: the machine's speed changes more from minute to minute than loading costs.
        taken: dict[str, list[float]] = {title: [] for title in rounds}
        for step in range(WARM_UP + 2 * steps):
            for title, batches in rounds.items():
                taken[title].append(step_seconds(learner, batches, step))
        for title, seconds in taken.items():
            found.setdefault(title, []).append(seconds[WARM_UP:])
        for title in list(rounds)[1:]:
            rounds[title].close()
        for title, seconds in augmentation_seconds(peer, arguments.dataset.resolve(), scratch).items():
            found.setdefault(title, []).append(seconds)
    return found


def report(plan: Plan, configuration: str, found: dict[str, list[list[float]]]) -> dict[str, Any]:
    """Prints the tables and returns the same as JSON."""
    entry = plan.configurations[configuration]
    # What is done to a batch differs much from one to the next, so augmentation is told by its mean; steps by their median.
    medians = {
        name: [statistics.mean(seconds) if name.startswith("augmentation") else statistics.median(seconds) for seconds in rounds]
        for name, rounds in found.items()
    }
    size = f"patch {'×'.join(map(str, entry.patch_size))}, batch {entry.batch_size}, {torch.get_num_threads()} threads"
    rows = [
        (name, f"{statistics.median(rounds):.3f}", f"{min(map(min, found[name])):.3f}–{max(map(max, found[name])):.3f}")
        for name, rounds in medians.items()
    ]
    show_table(f"{plan.dataset} {configuration}: {size}", ("step", "median s", "range"), rows)
    usual = min((name for name in medians if name.startswith("autounet")), key=lambda name: statistics.median(medians[name]))
    ratios = {
        "step": median_ratio(medians["nnU-Net fp32"], medians[usual]),
        "step, both in fp32": median_ratio(medians["nnU-Net fp32"], medians["autounet fp32"]),
        "augmentation": median_ratio(medians["augmentation, nnU-Net"], medians["augmentation, autounet"]),
        "from memory": median_ratio(medians["augmented, from memory"], medians["augmented, batch there"]),
        "from disk": median_ratio(medians["augmented, from disk"], medians["augmented, batch there"]),
    }
    if "autounet bf16" in medians:
        ratios["step, both in bf16"] = median_ratio(medians["nnU-Net bf16"], medians["autounet bf16"])
    bars = {
        "step": ratios["step"] >= STEP_BAR,
        "from memory": ratios["from memory"] <= LOADER_BAR,
        "from disk": ratios["from disk"] <= LOADER_BAR,
    }
    what = {
        "step": (f"nnU-Net as it is (fp32) / {usual}", f"≥ {STEP_BAR}"),
        "step, both in fp32": ("nnU-Net / autounet", "none"),
        "step, both in bf16": ("nnU-Net / autounet; nnU-Net itself never uses bf16 on a CPU", "none"),
        "augmentation": ("nnU-Net / autounet, one core each, the same patches", "none"),
        "from memory": ("with loading / on a batch that is there", f"≤ {LOADER_BAR}"),
        "from disk": ("with loading / on a batch that is there", f"≤ {LOADER_BAR}"),
    }
    rows = [
        (name, what[name][0], f"{ratio:.2f}", what[name][1], verdict(bars[name]) if name in bars else "–") for name, ratio in ratios.items()
    ]
    show_table("Ratios: medians of the rounds", ("what", "of", "ratio", "bar", "holds"), rows)
    return {"dataset": plan.dataset, "configuration": configuration, "seconds": found, "ratios": ratios, "holds": bars}


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", type=Path, required=True, help="folder of Task04_Hippocampus")
    parser.add_argument("--peer", type=Path, required=True, help="nnU-Net's environment; made there if it is missing")
    parser.add_argument("-c", "--configuration", default="3d_fullres")
    parser.add_argument("--steps", type=int, default=6, help="timed steps of each in a round (default: 6)")
    parser.add_argument("--rounds", type=int, default=3, help="turns (default: 3)")
    parser.add_argument("--json", type=Path, default=Path("benchmark_results/training.json"), help="where the result goes")
    arguments = parser.parse_args()
    about, dataset = machine(), arguments.dataset.resolve()
    try:
        peer = make_peer(arguments.peer)
        with tempfile.TemporaryDirectory(prefix="autounet_benchmark_") as folder:
            scratch = Path(folder).resolve()
            runs = RunLayout(scratch / "runs" / dataset.name)
            common = ["-d", dataset, "--preset", "nnunet", "--runs", scratch / "runs"]
            run_measured([*AUTOUNET, "plan", *common], log=scratch / "plan.log")
            run_measured([*AUTOUNET, "preprocess", *common, "-c", arguments.configuration], log=scratch / "preprocess.log")
            plan = Plan.load(runs.plan)
            result = report(plan, arguments.configuration, measure(plan, runs, arguments, peer, scratch))
    except CommandFailed as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    write_json(arguments.json, {"machine": about, "peer_versions": PINNED, **result})
    return 0 if all(result["holds"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
