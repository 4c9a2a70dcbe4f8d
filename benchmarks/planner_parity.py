"""Our planner against nnU-Net's: hundreds of random datasets, planned by both from fingerprints, compared decision by decision.

``python -m benchmarks.planner_parity --peer DIR [--plans N] [--minutes M] [--seed S] [--first N] [--json FILE]``
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autounet.errors import AutounetError
from autounet.interop.nnunet_fingerprint import fingerprint_from_nnunet
from autounet.plan import Plan
from autounet.planners.planner import make_plan
from autounet.planners.presets import PRESETS
from benchmarks.agreement import Compared, buildable, compare_plans
from benchmarks.measure import REPOSITORY, CommandFailed, machine, show_table, verdict, write_json
from benchmarks.peer import PINNED, Peer, make_peer
from benchmarks.random_datasets import PLANNERS, RandomDataset, random_dataset

MOST_SECONDS = 1.0
"""Our planner takes less, whatever the dataset."""
PEER_LIMIT_SECONDS = 60.0
"""nnU-Net's search for a patch may never end; it is stopped then."""
OUT_OF_TIME = "out of time"
"""What ``peer_planner.py`` answers then."""
SHOWN = 20
"""Differences are printed up to this number; the JSON has all."""


class PeerPlanner:
    """One process of the peer that plans dataset after dataset."""

    def __init__(self, peer: Peer, scratch: Path) -> None:
        with (scratch / "peer.log").open("w", encoding="utf-8") as log:
            self._process = subprocess.Popen(
                [peer.python, REPOSITORY / "benchmarks" / "peer_planner.py"],
                env=peer.environment(scratch), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, encoding="utf-8",
            )  # fmt: skip

    def plan(self, drawn: RandomDataset, filled: bool) -> dict[str, Any]:
        """Its answer, see ``peer_planner.py``. Raises CommandFailed when the process has ended."""
        assert self._process.stdin is not None and self._process.stdout is not None  # noqa: PT018
        job = {
            "dataset": drawn.dataset,
            "fingerprint": drawn.fingerprint,
            "planner": drawn.planner,
            "memory_gb": drawn.memory_gb,
            "filled": filled,
            "limit_seconds": PEER_LIMIT_SECONDS,
        }
        try:
            self._process.stdin.write(json.dumps(job) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise CommandFailed(f"the peer's planner ended at dataset {drawn.number} with exit code {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """Ends the process."""
        self._process.terminate()
        self._process.wait()


@dataclass(slots=True)
class Outcome:
    """What came of one dataset."""

    drawn: RandomDataset
    ours_seconds: float
    """Of the process, as all seconds here: whatever else the machine does meanwhile."""
    peer_seconds: float
    peer_filled_seconds: float | None = None
    """Of nnU-Net untouched, where that was measured, too."""
    ours_failed: str = ""
    peer_failed: str = ""
    left_out: list[str] = field(default_factory=list)
    """nnU-Net's configurations whose network cannot be built."""
    compared: list[Compared] = field(default_factory=list)
    peer_filled_stopped: bool = False
    """That took longer than ``PEER_LIMIT_SECONDS``."""
    has_phantom_slices: bool = False
    """Planar images that nnU-Net takes for volumes, see ``without_phantom_slices``."""
    peer_depends_on_weights: bool = False
    """nnU-Net's plan was another when its networks had weights: the shortcut of ``peer_planner.py`` would be wrong."""

    @property
    def differences(self) -> list[Compared]:
        """Decisions that differ."""
        return [entry for entry in self.compared if entry.differs]

    @property
    def agrees(self) -> bool:
        """Both made the same plan, or both none, or nnU-Net alone failed, or only we said that nothing can be built of its plan."""
        if self.peer_failed:
            return True
        return not self.ours_failed and not self.differences


def plan_ours(drawn: RandomDataset) -> tuple[Plan | None, str, float]:
    """Our plan or the reason why there is none, and the seconds."""
    preset, _ = PLANNERS[drawn.planner]
    began = time.process_time()
    try:
        fingerprint = fingerprint_from_nnunet(drawn.fingerprint, drawn.dataset, f"Dataset{drawn.number}")
        plan = make_plan(fingerprint, PRESETS[preset], file_ending=".nii.gz", gpu_memory_gb=drawn.memory_gb)
    except AutounetError as error:
        return None, str(error), time.process_time() - began
    return plan, "", time.process_time() - began


def one_dataset(drawn: RandomDataset, planner: PeerPlanner, filled: bool) -> Outcome:
    """Plans it with both and compares."""
    plan, failed, seconds = plan_ours(drawn)
    answer = planner.plan(drawn, filled=False)
    outcome = Outcome(drawn, seconds, answer["seconds"], ours_failed=failed, peer_failed=answer.get("failed", ""))
    if outcome.peer_failed:
        return outcome
    if filled:
        untouched = planner.plan(drawn, filled=True)
        outcome.peer_filled_seconds = untouched["seconds"]
        outcome.peer_filled_stopped = untouched.get("failed") == OUT_OF_TIME
        outcome.peer_depends_on_weights = untouched.get("plans") != answer["plans"] and not outcome.peer_filled_stopped
    usable = buildable(answer["plans"])
    outcome.left_out = sorted(set(answer["plans"]["configurations"]) - set(usable))
    if plan is not None:
        outcome.compared = compare_plans(plan, answer["plans"], answer["networks"])
        outcome.has_phantom_slices = plan.ndim == 2 and "3d_fullres" in answer["plans"]["configurations"]
        if outcome.has_phantom_slices:
            outcome.compared = without_phantom_slices(outcome.compared)
    elif not usable:
        outcome.ours_failed, outcome.peer_failed = failed, "plans nothing but networks that cannot be built"
    return outcome


def without_phantom_slices(compared: Sequence[Compared]) -> list[Compared]:
    """What can be compared where nnU-Net takes planar images for volumes.

    It gives them a first axis of 999 times their spacing. Where pixels are of unlike sizes, its rule for coarse axes makes that axis
    finer, so that a typical image gets several slices: it plans 3D configurations, and lets a 2D batch have as many times more
    patches, since it counts the slices as voxels. For autounet, planar images are planar.
    """
    return [entry for entry in compared if entry.decision not in ("configurations", "batch")]


def run(peer: Peer, seed: int, numbers: Sequence[int], minutes: float, filled_every: int) -> list[Outcome]:
    """As many datasets as fit into the time."""
    outcomes: list[Outcome] = []
    end = time.monotonic() + 60 * minutes
    with tempfile.TemporaryDirectory(prefix="autounet_parity_") as folder:
        planner = PeerPlanner(peer, Path(folder))
        try:
            for position, number in enumerate(numbers):
                if time.monotonic() > end:
                    break
                outcome = one_dataset(random_dataset(seed, number), planner, filled=position % filled_every == 0)
                outcomes.append(outcome)
                if not outcome.agrees:
                    print(f"dataset {number} ({outcome.drawn.kind}, {outcome.drawn.planner}): differs", file=sys.stderr)
                if position % 100 == 99:
                    print(f"{position + 1} of {len(numbers)} datasets", file=sys.stderr)
        finally:
            planner.close()
    return outcomes


def report(outcomes: Sequence[Outcome], seed: int) -> dict[str, Any]:
    """Prints the tables and returns the same as JSON."""
    compared = [outcome for outcome in outcomes if outcome.compared]
    fields = _fields(compared)
    rows = [(name, str(count), str(differing)) for name, (count, differing) in fields.items()]
    title = f"{len(outcomes)} random datasets of seed {seed}, {len(compared)} plans compared"
    show_table(title, ("decision", "compared", "differing"), rows)
    kinds = Counter(outcome.drawn.kind for outcome in compared)
    wrong_kinds = Counter(outcome.drawn.kind for outcome in outcomes if not outcome.agrees)
    rows = [(kind, str(number), str(wrong_kinds[kind])) for kind, number in kinds.items()]
    show_table("Kinds of datasets", ("kind", "plans compared", "plans differing"), rows)
    seconds = _seconds(outcomes)
    rows = [
        (name, str(entry["plans"]), *(f"{entry[word]:.4f}" for word in ("median", "max")))
        for name, entry in seconds.items()
        if entry["plans"]
    ]
    show_table("Seconds of one plan, of the process", ("planner", "plans", "median s", "max s"), rows)
    stopped = sum(outcome.peer_filled_stopped for outcome in outcomes)
    slowest = max(outcomes, key=lambda outcome: outcome.ours_seconds).drawn
    print(f"nnU-Net untouched was stopped {stopped} times, after {PEER_LIMIT_SECONDS:g} s")
    print(f"autounet's slowest: dataset {slowest.number} ({slowest.kind}, {slowest.planner}, {slowest.memory_gb:g} GB)")
    failures = Counter(outcome.peer_failed.splitlines()[0][:100] for outcome in outcomes if outcome.peer_failed)
    ours_too = sum(bool(outcome.peer_failed and outcome.ours_failed) for outcome in outcomes)
    print(f"nnU-Net made no plan for {failures.total()} datasets, autounet refused {ours_too} of these:")
    for reason, count in failures.most_common():
        print(f"  {count:5d}  {reason}")
    configurations = Counter(entry.configuration for outcome in compared for entry in outcome.compared if entry.decision == "patch")
    print(f"configurations compared: {_listed(configurations)}")
    targets = Counter(f"{outcome.drawn.planner} {outcome.drawn.memory_gb:g} GB" for outcome in compared)
    print(f"planners: {_listed(targets)}")
    left_out = Counter(name for outcome in compared for name in outcome.left_out)
    print(f"nnU-Net's configurations of a single stage, left out: {_listed(left_out) or 'none'}")
    phantoms = sum(outcome.has_phantom_slices for outcome in outcomes)
    print(f"planar datasets that nnU-Net takes for volumes (3D configurations and the 2D batch not compared): {phantoms}")
    wrong = [outcome for outcome in outcomes if not outcome.agrees]
    _show_differences(wrong)
    holds = {
        "plans_equal": bool(compared) and not wrong,
        "peer_independent_of_weights": not any(outcome.peer_depends_on_weights for outcome in outcomes),
        "under_a_second": max(outcome.ours_seconds for outcome in outcomes) < MOST_SECONDS,
    }
    print(f"no decision differs: {verdict(holds['plans_equal'])}")
    print(f"every plan of ours in less than {MOST_SECONDS:g} s: {verdict(holds['under_a_second'])}")
    print(f"nnU-Net's plans do not depend on the weights of its networks: {verdict(holds['peer_independent_of_weights'])}")
    return {
        "seed": seed,
        "datasets": len(outcomes),
        "plans_compared": len(compared),
        "configurations_compared": configurations,
        "planners": targets,
        "decisions": {name: {"compared": count, "differing": differing} for name, (count, differing) in fields.items()},
        "kinds": {kind: {"compared": number, "differing": wrong_kinds[kind]} for kind, number in kinds.items()},
        "seconds": seconds,
        "untouched_stopped": stopped,
        "slowest": slowest.number,
        "peer_failures": failures,
        "refused_by_both": ours_too,
        "single_stage_left_out": left_out,
        "planar_taken_for_volumes": phantoms,
        "differing": [_as_json(outcome) for outcome in wrong],
        "holds": holds,
    }


def _fields(outcomes: Sequence[Outcome]) -> dict[str, tuple[int, int]]:
    """How often every decision was compared, and how often it differs."""
    count, differing = Counter[str](), Counter[str]()
    for outcome in outcomes:
        for entry in outcome.compared:
            count[entry.decision] += 1
            differing[entry.decision] += entry.differs
    return {name: (number, differing[name]) for name, number in count.items()}


def _seconds(outcomes: Sequence[Outcome]) -> dict[str, dict[str, float]]:
    untouched = [outcome for outcome in outcomes if outcome.peer_filled_seconds is not None]
    groups: dict[str, list[float]] = {
        "autounet": [outcome.ours_seconds for outcome in outcomes],
        "nnU-Net, its networks without weights": [outcome.peer_seconds for outcome in outcomes if not outcome.peer_failed],
        "autounet, datasets of the next line": [outcome.ours_seconds for outcome in untouched],
        "nnU-Net, untouched": [outcome.peer_filled_seconds for outcome in untouched if outcome.peer_filled_seconds is not None],
    }
    return {
        name: {"plans": len(values), "median": statistics.median(values), "max": max(values)} if values else {"plans": 0}
        for name, values in groups.items()
    }


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {number}" for name, number in sorted(counts.items()))


def _show_differences(wrong: Sequence[Outcome]) -> None:
    for outcome in wrong[:SHOWN]:
        drawn = outcome.drawn
        print(f"dataset {drawn.number} ({drawn.kind}, {drawn.planner}, {drawn.memory_gb:g} GB): {outcome.ours_failed}")
        for entry in outcome.differences[:8]:
            print(f"  {entry.what}: autounet {entry.ours}, nnU-Net {entry.peers}")


def _as_json(outcome: Outcome) -> Mapping[str, Any]:
    drawn = outcome.drawn
    return {
        "number": drawn.number,
        "kind": drawn.kind,
        "planner": drawn.planner,
        "memory_gb": drawn.memory_gb,
        "dataset": drawn.dataset,
        "fingerprint": drawn.fingerprint,
        "ours_failed": outcome.ours_failed,
        "differences": [{"what": entry.what, "ours": entry.ours, "peers": entry.peers} for entry in outcome.differences],
    }


def main() -> int:
    """The command; 0 when every bar holds."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.planner_parity", description=__doc__.splitlines()[0])
    parser.add_argument("--peer", type=Path, required=True, help="nnU-Net's environment; made there if it is missing")
    parser.add_argument("--plans", type=int, default=1000, help="random datasets (default: 1000)")
    parser.add_argument("--minutes", type=float, default=15, help="no further dataset is begun after these (default: 15)")
    parser.add_argument("--seed", type=int, default=0, help="of the datasets (default: 0)")
    parser.add_argument("--first", type=int, default=0, help="number of the first dataset, to look at one again (default: 0)")
    parser.add_argument("--untouched-every", type=int, default=50, help="every so many, nnU-Net plans once more with weights (default: 50)")
    parser.add_argument("--json", type=Path, default=Path("benchmark_results/planner_parity.json"), help="where the result goes")
    arguments = parser.parse_args()
    about = machine()
    numbers = range(arguments.first, arguments.first + max(1, arguments.plans))
    try:
        peer = make_peer(arguments.peer)
        outcomes = run(peer, arguments.seed, numbers, arguments.minutes, max(1, arguments.untouched_every))
    except CommandFailed as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    result = report(outcomes, arguments.seed)
    write_json(arguments.json, {"machine": about, "peer": PINNED, **result})
    return 0 if all(result["holds"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
