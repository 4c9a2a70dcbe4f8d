"""Preparing datasets that are planned: ``autounet preprocess`` against ``nnUNetv2_preprocess``, whole commands, in turns.

``python -m benchmarks.preprocess --peer DIR --dataset PATH [--dataset PATH …] [--repeats N] [--json FILE]``
"""

import argparse
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from autounet.dataset import read_dataset
from autounet.layout import RunLayout
from autounet.plan import Plan
from benchmarks.agreement import array_agreement, plan_differences
from benchmarks.measure import CommandFailed, Measured, machine, median_ratio, show_table, verdict, write_json
from benchmarks.peer import PINNED, Peer, make_peer
from benchmarks.peer_dataset import as_nnunet_raw
from benchmarks.plan_and_preprocess import CONFIGURATIONS, PROCESSES, figures, plan_ours, preprocess_ours, show_arrays

BAR = 4.0
"""nnU-Net takes at least so many times our seconds."""


def measure(peer: Peer, dataset: Path, scratch: Path, repeats: int, cases: int) -> dict[str, Any]:
    """Plans with both programs, prepares ``repeats`` times with each, who begins changes every time, and compares ``cases`` cases."""
    number, name = as_nnunet_raw(dataset, scratch / "raw")
    plan_ours(dataset, scratch)
    peer.run(["nnUNetv2_plan_and_preprocess", "-d", str(number), "--no_pp", "-np", str(PROCESSES)], scratch, scratch / "peer_plan.log")
    layout, preprocessed = RunLayout(scratch / "runs" / dataset.name), scratch / "preprocessed" / name
    runs: dict[str, list[Measured]] = {"ours": [], "peer": []}
    for repeat in range(repeats):
        for who in ("ours", "peer") if repeat % 2 == 0 else ("peer", "ours"):
            runs[who].append(
                _prepare_ours(dataset, layout, scratch) if who == "ours" else _prepare_peers(peer, number, preprocessed, scratch)
            )
        print(
            f"repeat {repeat + 1} of {repeats}: {', '.join(f'{who} {turns[-1].seconds:.1f} s' for who, turns in runs.items())}",
            file=sys.stderr,
        )
    seconds = {who: [run.seconds for run in turns] for who, turns in runs.items()}
    speed_up = median_ratio(seconds["peer"], seconds["ours"])
    spec = read_dataset(dataset)
    rows = [("autounet preprocess", *figures(runs["ours"])), (f"nnUNetv2_preprocess -np {PROCESSES}", *figures(runs["peer"]))]
    title = f"{spec.name}, {len(spec.cases)} cases, {' and '.join(CONFIGURATIONS)}, {PROCESSES} workers"
    show_table(title, ("command", "median s", "each s", "peak MB"), rows)
    print(f"autounet is {speed_up:.2f} times as fast (median of {repeats}); at least {BAR:g}: {verdict(speed_up >= BAR)}")
    arrays = array_agreement(spec, layout, preprocessed, cases)
    show_arrays(arrays)
    equal_plans = not plan_differences(Plan.load(layout.plan), preprocessed / "nnUNetPlans.json")
    agree = bool(arrays) and all(entry.holds for entry in arrays)
    print(f"plans equal: {verdict(equal_plans)}; prepared arrays agree: {verdict(agree)}")
    return {
        "dataset": spec.name,
        "cases": len(spec.cases),
        "seconds": seconds,
        "peak_mb": {who: [run.peak_mb for run in turns] for who, turns in runs.items()},
        "speed_up": speed_up,
        "arrays": [{**asdict(entry), "image_difference": entry.image_difference if entry.same_shape else None} for entry in arrays],
        "holds": {"time": speed_up >= BAR, "plans_equal": equal_plans, "arrays_agree": agree},
    }


def _put_aside(folder: Path, scratch: Path) -> None:
    """An earlier run's result. It is not deleted: on ext4, files are slow to make for a minute after many others were deleted."""
    if folder.exists():
        folder.rename(Path(tempfile.mkdtemp(prefix="aside_", dir=scratch)) / folder.name)


def _prepare_ours(dataset: Path, layout: RunLayout, scratch: Path) -> Measured:
    for name in CONFIGURATIONS:
        _put_aside(layout.prepared(name), scratch)
    return preprocess_ours(dataset, scratch)


def _prepare_peers(peer: Peer, number: int, preprocessed: Path, scratch: Path) -> Measured:
    for name in CONFIGURATIONS:
        _put_aside(preprocessed / f"nnUNetPlans_{name}", scratch)
    # Cardiac and Hippocampus have both configurations; nnU-Net passes over one that the plan lacks.
    command = ["nnUNetv2_preprocess", "-d", str(number), "-c", *CONFIGURATIONS, "-np", str(PROCESSES)]
    return peer.run(command, scratch, scratch / "peer_preprocess.log")


def main() -> int:
    """The command; 0 when every bar holds."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.preprocess", description=__doc__.splitlines()[0])
    parser.add_argument("--peer", type=Path, required=True, help="nnU-Net's environment; made there if it is missing")
    parser.add_argument("--dataset", type=Path, required=True, action="append", help="dataset folder; may be given several times")
    parser.add_argument("--repeats", type=int, default=3, help="turns of both programs (default: 3)")
    parser.add_argument("--cases", type=int, default=5, help="prepared cases to compare (default: 5)")
    parser.add_argument("--json", type=Path, default=Path("benchmark_results/preprocess.json"), help="where the result goes")
    parser.add_argument("--scratch", type=Path, help="where the temporary folders are made (default: the system's place)")
    arguments = parser.parse_args()
    about, results = machine(), []
    try:
        peer = make_peer(arguments.peer)
        for dataset in arguments.dataset:
            with tempfile.TemporaryDirectory(prefix="autounet_benchmark_", dir=arguments.scratch) as name:
                results.append(measure(peer, dataset.resolve(), Path(name).resolve(), max(1, arguments.repeats), arguments.cases))
    except CommandFailed as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    write_json(arguments.json, {"machine": about, "peer": PINNED, "results": results})
    return 0 if all(all(result["holds"].values()) for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
