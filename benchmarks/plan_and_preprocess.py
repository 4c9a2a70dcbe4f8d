"""Planning and preparing a dataset: ``autounet plan`` and ``preprocess`` against ``nnUNetv2_plan_and_preprocess``, in turns.

``python -m benchmarks.plan_and_preprocess --peer DIR --dataset PATH [--repeats N] [--json FILE]``
"""

import argparse
import statistics
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from autounet.dataset import DatasetSpec, read_dataset
from autounet.layout import RunLayout
from autounet.plan import Plan
from benchmarks.agreement import ArrayAgreement, array_agreement, plan_differences
from benchmarks.measure import AUTOUNET, CommandFailed, Measured, machine, median_ratio, run_measured, show_table, verdict, write_json
from benchmarks.peer import PINNED, Peer, make_peer
from benchmarks.peer_dataset import as_nnunet_raw

CONFIGURATIONS = ("2d", "3d_fullres")
PROCESSES = 2
"""Of the peer; autounet gets as many threads."""
BAR = 1 / 3
"""autounet takes at most this share of the peer's time."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One repeat: both programs, each into fresh folders."""

    plan: Measured
    preprocess: Measured
    peer: Measured

    @property
    def seconds(self) -> float:
        """Of ours, both commands."""
        return self.plan.seconds + self.preprocess.seconds

    @property
    def peak_mb(self) -> float | None:
        """Of ours: the larger of both commands."""
        peaks = [run.peak_mb for run in (self.plan, self.preprocess) if run.peak_mb is not None]
        return max(peaks) if peaks else None


def run_ours(dataset: Path, folder: Path) -> tuple[Measured, Measured]:
    """Plans and prepares into a fresh run folder ``folder/runs``."""
    return plan_ours(dataset, folder), preprocess_ours(dataset, folder)


def plan_ours(dataset: Path, folder: Path) -> Measured:
    """Plans into a fresh run folder ``folder/runs``."""
    return run_measured([*AUTOUNET, "plan", *_where(dataset, folder), "--preset", "nnunet"], log=folder / "plan.log")


def preprocess_ours(dataset: Path, folder: Path) -> Measured:
    """Prepares what is planned in ``folder/runs``."""
    planned_names = Plan.load(RunLayout(folder / "runs" / dataset.name).plan).configurations
    chosen = [word for name in CONFIGURATIONS if name in planned_names for word in ("-c", name)]
    return run_measured([*AUTOUNET, "preprocess", *_where(dataset, folder), *chosen], log=folder / "preprocess.log")


def _where(dataset: Path, folder: Path) -> list[str | Path]:
    return ["-d", dataset, "--runs", folder / "runs", "--workers", str(PROCESSES)]


def run_peer(peer: Peer, dataset: Path, folder: Path) -> tuple[Measured, Path]:
    """The peer's command into fresh folders below ``folder``; the links that stand for its copy of the dataset are not timed."""
    number, name = as_nnunet_raw(dataset, folder / "raw")
    command = ["nnUNetv2_plan_and_preprocess", "-d", str(number), "-c", *CONFIGURATIONS, "-np", str(PROCESSES)]
    return peer.run(command, folder, folder / "plan_and_preprocess.log"), folder / "preprocessed" / name


def take_turns(peer: Peer, dataset: Path, scratch: Path, repeats: int) -> tuple[list[Turn], RunLayout, Path]:
    """All repeats; who begins changes every time. Returns the turns, and the last one's two result folders."""
    turns, preprocessed = [], scratch
    for repeat in range(repeats):
        ours_folder, peer_folder = scratch / f"ours_{repeat}", scratch / f"peer_{repeat}"
        if repeat % 2:
            theirs, preprocessed = run_peer(peer, dataset, peer_folder)
        plan, preprocess = run_ours(dataset, ours_folder)
        if not repeat % 2:
            theirs, preprocessed = run_peer(peer, dataset, peer_folder)
        turns.append(Turn(plan, preprocess, theirs))
        print(f"repeat {repeat + 1} of {repeats}: autounet {turns[-1].seconds:.1f} s, nnU-Net {theirs.seconds:.1f} s", file=sys.stderr)
    return turns, RunLayout(scratch / f"ours_{repeats - 1}" / "runs" / dataset.name), preprocessed


def report(spec: DatasetSpec, turns: list[Turn], layout: RunLayout, preprocessed: Path, cases: int) -> dict[str, Any]:
    """Prints the tables and returns the same as JSON."""
    ours, theirs = [turn.seconds for turn in turns], [turn.peer.seconds for turn in turns]
    ratio = median_ratio(ours, theirs)
    rows = [
        ("autounet plan", *figures([turn.plan for turn in turns])),
        ("autounet preprocess", *figures([turn.preprocess for turn in turns])),
        ("nnUNetv2_plan_and_preprocess", *figures([turn.peer for turn in turns])),
    ]
    columns = ("command", "median s", "each s", "peak MB")
    show_table(f"{spec.name}, {len(spec.cases)} cases, {' and '.join(CONFIGURATIONS)}, {PROCESSES} workers", columns, rows)
    print(f"autounet / nnU-Net: {ratio:.3f} (median of {len(turns)}); at most a third: {verdict(ratio <= BAR)}")
    differences = plan_differences(Plan.load(layout.plan), preprocessed / "nnUNetPlans.json")
    print(f"plans equal: {verdict(not differences)}")
    for entry in differences:
        print(f"  {entry.what}: autounet {entry.ours}, nnU-Net {entry.peers}")
    arrays = array_agreement(spec, layout, preprocessed, cases)
    show_arrays(arrays)
    arrays_agree = bool(arrays) and all(entry.holds for entry in arrays)
    print(f"prepared arrays agree: {verdict(arrays_agree)}")
    return {
        "dataset": spec.name,
        "cases": len(spec.cases),
        "turns": [{**asdict_short(turn), "ours_seconds": turn.seconds, "ours_peak_mb": turn.peak_mb} for turn in turns],
        "median_ratio": ratio,
        "plan_differences": [{"what": entry.what, "ours": entry.ours, "peers": entry.peers} for entry in differences],
        # JSON has no infinity: a difference of arrays with unlike shapes is null.
        "arrays": [{**asdict(entry), "image_difference": entry.image_difference if entry.same_shape else None} for entry in arrays],
        "holds": {"time": ratio <= BAR, "plans_equal": not differences, "arrays_agree": arrays_agree},
    }


def asdict_short(turn: Turn) -> dict[str, Any]:
    """Seconds and memory of each command, without what it wrote."""
    commands = {"plan": turn.plan, "preprocess": turn.preprocess, "peer": turn.peer}
    return {name: {"seconds": run.seconds, "peak_mb": run.peak_mb} for name, run in commands.items()}


def figures(runs: list[Measured]) -> tuple[str, str, str]:
    """Median seconds, each run's, and the largest memory in MB, as words."""
    seconds = [run.seconds for run in runs]
    peaks = [run.peak_mb for run in runs if run.peak_mb is not None]
    memory = f"{max(peaks):.0f}" if peaks else "–"
    return f"{statistics.median(seconds):.1f}", ", ".join(f"{value:.1f}" for value in seconds), memory


def show_arrays(arrays: list[ArrayAgreement]) -> None:
    """Prints how near prepared cases are."""
    rows = [(f"{entry.configuration} {entry.case}", f"{entry.image_difference:.2g}", f"{entry.labels_equal:.6f}") for entry in arrays]
    show_table("Prepared arrays, against nnU-Net's", ("case", "largest difference", "labels equal"), rows)


def main() -> int:
    """The command; 0 when every bar holds."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plan_and_preprocess", description=__doc__.splitlines()[0])
    parser.add_argument("--peer", type=Path, required=True, help="nnU-Net's environment; made there if it is missing")
    parser.add_argument("--dataset", type=Path, required=True, help="dataset folder, in the Decathlon's or nnU-Net's layout")
    parser.add_argument("--repeats", type=int, default=3, help="turns of both programs (default: 3)")
    parser.add_argument("--cases", type=int, default=5, help="prepared cases to compare (default: 5)")
    parser.add_argument("--json", type=Path, default=Path("benchmark_results/plan_and_preprocess.json"), help="where the result goes")
    parser.add_argument("--scratch", type=Path, help="where the temporary folder is made (default: the system's place)")
    arguments = parser.parse_args()
    dataset, about = arguments.dataset.resolve(), machine()
    spec = read_dataset(dataset)
    try:
        peer = make_peer(arguments.peer)
        with tempfile.TemporaryDirectory(prefix="autounet_benchmark_", dir=arguments.scratch) as scratch:
            turns, layout, preprocessed = take_turns(peer, dataset, Path(scratch).resolve(), max(1, arguments.repeats))
            result = report(spec, turns, layout, preprocessed, arguments.cases)
    except CommandFailed as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    write_json(arguments.json, {"machine": about, "peer": PINNED, **result})
    return 0 if all(result["holds"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
