"""Commands are killed, interrupted and refused by the disk at many moments; the run folder must stay valid and the command repeatable.

``python -m benchmarks.faults --count 100`` prints a table: command × trials × survived, and every promise that was broken. It needs fork.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from tests.faults.harness import warm_up
from tests.faults.jobs import PLAYED, States
from tests.faults.trials import Trial, attempt, kills, reads, reference, refusals, slow, stops

KINDS = {"kills": kills, "stops": stops, "refusals": refusals, "reads": reads, "slow": slow}


def main() -> int:
    """Runs the trials."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100, help="trials per command and kind")
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--commands", nargs="+", default=PLAYED, metavar="COMMAND", help=f"of {', '.join(PLAYED)}")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="JSON file for all trials")
    options = parser.parse_args()
    warm_up()
    began, trials, rows = time.monotonic(), list[Trial](), list[str]()
    folder = Path(tempfile.mkdtemp(prefix="autounet-faults-"))
    try:
        states = States(folder)
        for name in options.commands:
            whole = reference(states, name)
            for kind in options.kinds:
                found = [attempt(states, whole, fault) for fault in KINDS[kind](whole, options.count, options.seed)]
                trials += found
                broken = [trial for trial in found if trial.problems]
                hit = sum(trial.hit for trial in found)
                rows.append(f"| {name} | {kind} | {len(found)} | {hit} | {len(found) - len(broken)} |")
                print(rows[-1], flush=True)
                for trial in broken:
                    print(f"    {trial.fault}", *trial.problems, sep="\n        ", flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print("\n| command | kind | trials | came before the end | survived |\n|---|---|---|---|---|", *rows, sep="\n")
    print(f"{len(trials)} trials in {time.monotonic() - began:.0f} s")
    if options.output is not None:
        options.output.write_text(json.dumps([asdict(trial) for trial in trials], indent=1))
    return int(any(trial.problems for trial in trials))


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)
