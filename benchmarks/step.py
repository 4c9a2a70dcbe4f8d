"""Seconds of one training step on the CPU (network, loss, optimizer): ours, and with --peer nnU-Net's, of the same plan.

``python -m benchmarks.step --dataset PATH [--peer DIR] [-c 3d_fullres] [--steps 4] [--rounds 1]``
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from autounet.device import autocast
from autounet.layout import RunLayout
from autounet.networks.build import build_network, memory_format
from autounet.plan import Plan
from autounet.preset import NNUNET_OPTIMIZER
from autounet.training.losses import SegmentationLoss
from autounet.training.optim import build_optimizer, careful_step
from benchmarks.measure import AUTOUNET, REPOSITORY, CommandFailed, machine, run_measured, show_table, write_json
from benchmarks.peer import PINNED, Peer, make_peer

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
WARM_UP = 1


def our_seconds(plan: Plan, configuration: str, precision: str, steps: int) -> list[float]:
    """Seconds of each step on random patches of the plan's size, after a warm-up; the step is ``training/learner.py``'s."""
    entry = plan.configurations[configuration]
    device, generator = torch.device("cpu"), torch.Generator().manual_seed(0)
    layout = memory_format(entry.network.ndim, device)
    network = build_network(entry.network).train().to(memory_format=layout)  # type: ignore[call-overload]
    optimizer, scaler = build_optimizer(network, NNUNET_OPTIMIZER, device), torch.amp.GradScaler("cpu", enabled=False)
    loss_of = SegmentationLoss(plan.labels, entry.batch_dice, len(entry.network.blocks_decoder))
    image = torch.randn(entry.batch_size, entry.network.in_channels, *entry.patch_size, generator=generator).contiguous(
        memory_format=layout
    )
    labels = torch.randint(0, plan.labels.outputs, (entry.batch_size, *entry.patch_size), generator=generator)
    seconds = []
    for _ in range(WARM_UP + steps):
        began = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        with autocast(device, PRECISIONS[precision]):
            scores = network(image)
        loss = loss_of(scores, labels)
        torch.autograd.backward(loss)
        careful_step(optimizer, loss, scaler)
        seconds.append(time.perf_counter() - began)
    return seconds[WARM_UP:]


def peer_seconds(peer: Peer, plan: Plan, configuration: str, precision: str, steps: int, scratch: Path) -> list[float]:
    """The same of nnU-Net's network, loss and optimizer, in its own environment. Raises CommandFailed."""
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


def measure(plan: Plan, arguments: argparse.Namespace, peer: Peer | None, scratch: Path) -> dict[str, list[float]]:
    """All steps' seconds, by program and precision, taken in turns."""
    found: dict[str, list[float]] = {}
    for _ in range(arguments.rounds):
        for precision in PRECISIONS:
            found.setdefault(f"autounet {precision}", []).extend(our_seconds(plan, arguments.configuration, precision, arguments.steps))
            if peer is not None:
                theirs = peer_seconds(peer, plan, arguments.configuration, precision, arguments.steps, scratch)
                found.setdefault(f"nnU-Net {precision}", []).extend(theirs)
    return found


def report(plan: Plan, configuration: str, found: dict[str, list[float]]) -> dict[str, Any]:
    """Prints the table and returns the same as JSON."""
    entry = plan.configurations[configuration]
    medians = {name: statistics.median(seconds) for name, seconds in found.items()}
    reference = medians.get("nnU-Net fp32")
    ratios = {} if reference is None else {name: median / reference for name, median in medians.items()}
    rows = [
        (name, f"{medians[name]:.2f}", f"{min(seconds):.2f}–{max(seconds):.2f}", f"{ratios[name]:.2f}" if ratios else "–")
        for name, seconds in found.items()
    ]
    size = f"patch {'×'.join(map(str, entry.patch_size))}, batch {entry.batch_size}, {torch.get_num_threads()} threads"
    show_table(f"{plan.dataset} {configuration}: {size}", ("training step", "median s", "range", "/ nnU-Net fp32"), rows)
    if reference is not None:
        print("nnU-Net itself always trains in fp32 on a CPU; its bf16 line is what the same autocast as ours would give it.")
    return {"dataset": plan.dataset, "configuration": configuration, "seconds": found, "medians": medians, "ratios": ratios}


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.step", description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", type=Path, required=True, help="dataset folder; it is planned with the nnunet preset")
    parser.add_argument("--peer", type=Path, help="nnU-Net's environment; made there if it is missing")
    parser.add_argument("-c", "--configuration", default="3d_fullres")
    parser.add_argument("--batch", type=int, help="another batch size than the plan's, to try this script")
    parser.add_argument("--steps", type=int, default=4, help="timed steps of each (default: 4, after one warm-up)")
    parser.add_argument("--rounds", type=int, default=1, help="turns (default: 1)")
    parser.add_argument("--json", type=Path, default=Path("benchmark_results/step.json"), help="where the result goes")
    arguments = parser.parse_args()
    about, dataset = machine(), arguments.dataset.resolve()
    try:
        peer = None if arguments.peer is None else make_peer(arguments.peer)
        with tempfile.TemporaryDirectory(prefix="autounet_benchmark_") as folder:
            scratch = Path(folder).resolve()
            run_measured([*AUTOUNET, "plan", "-d", dataset, "--preset", "nnunet", "--runs", scratch / "runs"], log=scratch / "plan.log")
            plan = _with_batch(Plan.load(RunLayout(scratch / "runs" / dataset.name).plan), arguments.configuration, arguments.batch)
            result = report(plan, arguments.configuration, measure(plan, arguments, peer, scratch))
    except CommandFailed as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    write_json(arguments.json, {"machine": about, "peer_versions": PINNED if peer else None, **result})
    return 0


def _with_batch(plan: Plan, configuration: str, batch: int | None) -> Plan:
    if configuration not in plan.configurations:
        raise CommandFailed(f"-c {configuration}: the plan has {', '.join(plan.configurations)}")
    if batch is None:
        return plan
    entry = plan.configurations[configuration].model_copy(update={"batch_size": batch})
    return plan.model_copy(update={"configurations": {**plan.configurations, configuration: entry}})


if __name__ == "__main__":
    sys.exit(main())
