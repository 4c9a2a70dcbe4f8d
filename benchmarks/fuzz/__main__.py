"""Fuzzes one target, several, or all; prints a table and writes JSON.

``python -m benchmarks.fuzz TARGET… | all [--seconds N] [--out DIR] [--json FILE]``, ``--list``, or ``TARGET --input FILE`` for one input.
Ends with 1 where something was found; the file that does it is named.
"""

import argparse
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.fuzz.target import Target
from benchmarks.fuzz.targets import TARGETS
from benchmarks.fuzz.watch import Watch, judge, limit_memory, working_folder
from benchmarks.measure import REPOSITORY, machine, show_table, write_json

PATIENCE = 900
"""Seconds a process may take beside its time: to import, to try the corpus, to end."""


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a target."""

    target: str
    inputs: int
    per_second: int
    new_coverage: int
    """Branches that no seed and no past finding had reached."""
    found: tuple[str, ...]
    """Files that reproduce a finding."""
    fault: str
    """What is wrong, in words; empty where nothing is."""


def fuzz(target: Target, seconds: int, out: Path) -> Result:
    """Runs a target in a process of its own; whatever crashes there crashes alone."""
    folder = out / target.name
    folder.mkdir(parents=True, exist_ok=True)
    before = set(_reproducers(folder))
    log = folder / "log.txt"
    with log.open("wb") as stream:
        command = [sys.executable, "-m", "benchmarks.fuzz.worker", target.name, str(seconds), str(folder.resolve())]
        process = subprocess.Popen(command, cwd=REPOSITORY, stdout=stream, stderr=stream)
        try:
            code = process.wait(seconds + PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
    return _read(target, log.read_text(encoding="utf-8", errors="replace"), code, sorted(set(_reproducers(folder)) - before))


def _reproducers(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.name.startswith(("crash-", "timeout-", "oom-", "leak-"))]


def _read(target: Target, log: str, code: int, found: Sequence[Path]) -> Result:
    """LibFuzzer's words as numbers."""
    ended = re.search(r"^tried (\d+) in (\d+) s", log, flags=re.MULTILINE)
    coverage = [int(number) for number in re.findall(r" cov: (\d+) ", log)]
    first = re.search(r"INITED cov: (\d+)", log)
    seen = re.findall(r"#(\d+)\s", log)
    fault = ""
    if code != 0 or found or ended is None:
        said = re.findall(r"AssertionError: (.*)|((?:Fatal Python error|ERROR: libFuzzer|MemoryError|\w+Error:).*)", log)
        fault = next((one or other for one, other in said), f"exit code {code}; see the log")
    return Result(
        target.name,
        int(ended[1]) if ended else max(map(int, seen), default=0),
        int(ended[1]) // max(int(ended[2]), 1) if ended else 0,
        max(coverage, default=0) - int(first[1]) if first else 0,
        tuple(str(path) for path in found),
        fault[:300],
    )


def try_one(target: Target, path: Path) -> str | None:
    """What is wrong with one input."""
    with working_folder() as ground:
        folder = ground / target.name / "in"
        seeds, watch = target.prepare(folder), Watch()
        for data in seeds.values():
            judge(lambda data=data: target.run(data, folder), watch, folder, target.may_name, target.most_seconds)  # type: ignore[misc]
        limit_memory()
        data = path.read_bytes()
        return judge(lambda: target.run(data, folder), watch, folder, target.may_name, target.most_seconds)


def main(words: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("targets", nargs="*", metavar="TARGET")
    parser.add_argument("--list", action="store_true", help="name the targets and stop")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--input", type=Path, help="try this one input and stop")
    parser.add_argument("--out", type=Path, default=Path("benchmark_results/fuzz"), help="for corpora, logs and reproducers")
    parser.add_argument("--json", type=Path, default=Path("benchmark_results/fuzz.json"))
    given = parser.parse_args(words)
    if given.list:
        show_table("targets", ("target", "what"), [(target.name, target.what) for target in TARGETS.values()])
        return 0
    names = list(TARGETS) if given.targets == ["all"] else given.targets
    unknown = [name for name in names if name not in TARGETS]
    if unknown or not names:
        parser.error(f"no target {', '.join(unknown) or 'named'}; there are {', '.join(TARGETS)}, and all")
    if given.input is not None:
        fault = try_one(TARGETS[names[0]], given.input)
        print(fault or "read, or refused as it should be")
        return int(fault is not None)
    results = []
    for name in names:
        print(f"{name}: {given.seconds} s …", flush=True)
        results.append(fuzz(TARGETS[name], given.seconds, given.out))
    rows = [(each.target, f"{each.inputs:,}", f"{each.per_second:,}", str(each.new_coverage), each.fault or "none") for each in results]
    show_table(f"{given.seconds} s each", ("target", "inputs", "inputs/s", "new coverage", "findings"), rows)
    for each in results:
        for path in each.found:
            print(f"{each.target}: python -m benchmarks.fuzz {each.target} --input {path}")
    write_json(given.json, {"machine": machine(), "seconds": given.seconds, "targets": [asdict(each) for each in results]})
    return int(any(each.fault for each in results))


if __name__ == "__main__":
    sys.exit(main())
