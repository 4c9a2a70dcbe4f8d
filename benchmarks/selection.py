"""What ``autounet select`` found, beside nnU-Net's evaluation and postprocessing of the same label maps.

``python -m benchmarks.selection --run DIR --dataset PATH --peer DIR [--json FILE]``; DIR is a run folder in which ``select`` was run.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from autounet.dataset import read_dataset
from autounet.inference.crossval import CrossValidation
from autounet.layout import RunLayout
from autounet.plan import Plan
from autounet.postprocessing import KeepLargest
from autounet.selection import Candidate, Selection
from autounet.splits import Splits
from benchmarks.measure import CommandFailed, machine, show_table, verdict, write_json
from benchmarks.peer import Peer, make_peer

DICE_BAR = 1e-6


def ask_peer(peer: Peer, validation: CrossValidation, candidate: Candidate, scratch: Path) -> dict[str, Any]:
    """nnU-Net's Dice of a candidate's label maps, and the largest components it would keep. Raises CommandFailed."""
    folder = scratch / candidate.name
    for name in ("predictions", "truths"):
        (folder / name).mkdir(parents=True)
    for case, path in validation.predictions(candidate.configurations).items():
        os.symlink(path.resolve(), folder / "predictions" / path.name)
        os.symlink(validation.cases[case].label.resolve(), folder / "truths" / path.name)
    labels = validation.plan.labels
    job = {
        "predictions": str(folder / "predictions"),
        "truths": str(folder / "truths"),
        "labels": {"background": 0, **{entry.name: entry.values[0] for entry in labels.classes}},
        "ending": validation.plan.file_ending,
        "out": str(folder / "result.json"),
    }
    (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
    program = Path(__file__).with_name("peer_selection.py")
    peer.run([peer.python, program, folder / "job.json"], folder, folder / "log")
    found: dict[str, Any] = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    return found


def main() -> int:
    """The command; 0 when both agree."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.selection", description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True, help="a run folder with selection.json")
    parser.add_argument("--dataset", type=Path, required=True, help="its dataset")
    parser.add_argument("--peer", type=Path, required=True, help="nnU-Net's environment; made there if it is missing")
    parser.add_argument("--json", type=Path, default=Path("benchmark_results/selection.json"), help="where the result goes")
    arguments = parser.parse_args()
    layout = RunLayout(arguments.run.resolve())
    found, plan = Selection.load(layout.selection), Plan.load(layout.plan)
    validation = CrossValidation(read_dataset(arguments.dataset.resolve()), plan, layout, Splits.load(layout.splits), found.folds)
    rows, largest, answers = [], 0.0, {}
    try:
        peer = make_peer(arguments.peer)
        with tempfile.TemporaryDirectory(prefix="autounet_benchmark_") as folder:
            for candidate in found.candidates:
                answer = answers[candidate.name] = ask_peer(peer, validation, candidate, Path(folder).resolve())
                assert candidate.dice is not None
                differences = [abs(candidate.dice.value - answer["before"]["mean"])]
                for entry in plan.labels.classes:
                    ours, theirs = candidate.classes[entry.name], answer["before"]["classes"][str(entry.values[0])]
                    differences.append(abs((ours or 0.0) - theirs))
                largest = max(largest, *differences)
                rows.append((candidate.name, f"{candidate.dice.value:.6f}", f"{answer['before']['mean']:.6f}", f"{max(differences):.1e}"))
    except CommandFailed as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    show_table(f"{plan.dataset}: {found.cases} held-out cases", ("candidate", "mean Dice", "nnU-Net's", "largest difference"), rows)
    best = max(answers, key=lambda name: float(answers[name]["before"]["mean"]))
    ours = [sorted(step.values) for step in found.postprocessing if isinstance(step, KeepLargest)]
    theirs = answers[found.chosen]["steps"]
    holds = {"Dice": largest <= DICE_BAR, "choice": found.rule != "best" or found.chosen == best, "largest components": ours == theirs}
    print(f"chosen: {found.chosen}; nnU-Net's rule on nnU-Net's numbers: {best}")
    print(f"largest components kept: {ours}; nnU-Net: {theirs}")
    for name, value in holds.items():
        print(f"{name}: {verdict(value)}")
    write_json(arguments.json, {"machine": machine(), "largest_difference": largest, "peer": answers, "holds": holds})
    return 0 if all(holds.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
