"""Resampling of images and label maps: ours against the functions that nnU-Net's preprocessor calls, on the same arrays, in turns.

``python -m benchmarks.resample --peer DIR [--repeats N] [--json FILE]``
"""

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from benchmarks.measure import REPOSITORY, CommandFailed, machine, median_ratio, run_measured, show_table, verdict, write_json
from benchmarks.peer import PINNED, Peer, make_peer

THREADS = 2
IMAGE_TOLERANCE = 1e-4
"""Of the input's range."""
LABEL_AGREEMENT = 0.9999
WORKER = REPOSITORY / "benchmarks" / "resampling_job.py"


@dataclass(frozen=True, slots=True)
class Job:
    """One resampling; arrays (z, y, x), spacings in mm."""

    name: str
    shape_in: tuple[int, int, int]
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    target: tuple[float, float, float]
    is_seg: bool
    bar: float
    """nnU-Net takes at least so many times our seconds."""


JOBS = (
    Job("image, order 3", (100, 256, 256), (120, 320, 320), (1.2, 1.25, 1.25), (1.0, 1.0, 1.0), False, 6),
    Job("labels, 3 classes", (100, 256, 256), (120, 320, 320), (1.2, 1.25, 1.25), (1.0, 1.0, 1.0), True, 10),
    Job("image, thick slices", (40, 400, 400), (20, 512, 512), (4.0, 0.64, 0.64), (8.0, 0.5, 0.5), False, 4),
)


def make_input(job: Job) -> npt.NDArray[Any]:
    """An image of blobs with noise (float32), or the blobs' label map (int8): about a third of each label."""
    rng = np.random.default_rng(1234)
    smooth = ndimage.gaussian_filter(rng.standard_normal(job.shape_in, np.float32), [8 * job.spacing[2] / mm for mm in job.spacing])
    if job.is_seg:
        return np.digitize(smooth, np.quantile(smooth, [1 / 3, 2 / 3])).astype(np.int8)
    noisy: npt.NDArray[np.float32] = smooth / smooth.std() + rng.normal(0, 0.2, job.shape_in).astype(np.float32)
    return noisy


def run_job(who: str, command: Sequence[str | Path], job: Job, folder: Path, env: dict[str, str] | None) -> dict[str, Any]:
    """Seconds and memory of one resampling in a fresh process. Raises CommandFailed."""
    words = [*command, who, folder, json.dumps({**asdict(job), "threads": THREADS})]
    found: dict[str, Any] = json.loads(run_measured(words, log=folder / f"{who}.log", env=env).output.splitlines()[-1])
    return found


def measure(peer: Peer, job: Job, repeats: int, folder: Path) -> dict[str, Any]:
    """All turns of a job, who begins changes every time, and how far the results agree."""
    folder.mkdir()
    np.save(folder / "input.npy", make_input(job))
    programs = {
        "ours": ((sys.executable, "-m", "benchmarks.resampling_job"), None),
        "peer": ((peer.python, WORKER), peer.environment(folder / "nnunet")),
    }
    runs: dict[str, list[dict[str, Any]]] = {"ours": [], "peer": []}
    for repeat in range(repeats):
        for who in ("ours", "peer") if repeat % 2 == 0 else ("peer", "ours"):
            command, env = programs[who]
            runs[who].append(run_job(who, command, job, folder, env))
    seconds = {who: [run["seconds"] for run in turns] for who, turns in runs.items()}
    speed_up = median_ratio(seconds["peer"], seconds["ours"])
    found, expected = np.load(folder / "ours.npy"), np.load(folder / "peer.npy")
    if job.is_seg:
        agreement = float((found == expected).mean())
    else:
        agreement = float(np.abs(found - expected).max() / np.ptp(np.load(folder / "input.npy")))
    return {
        "job": asdict(job),
        "seconds": seconds,
        "peak_mb": {who: max((run["peak_mb"] or 0) for run in turns) or None for who, turns in runs.items()},
        "speed_up": speed_up,
        "agreement": agreement,
        "holds": {"speed": speed_up >= job.bar, "equal": agreement >= LABEL_AGREEMENT if job.is_seg else agreement <= IMAGE_TOLERANCE},
    }


def report(results: list[dict[str, Any]]) -> bool:
    """Prints the table; whether all bars hold."""
    rows = []
    for result in results:
        job, peaks, holds = result["job"], result["peak_mb"], result["holds"]
        medians = [f"{statistics.median(result['seconds'][who]):.3f}" for who in ("ours", "peer")]
        memory = [f"{peaks[who]:.0f}" if peaks[who] is not None else "–" for who in ("ours", "peer")]
        equal = f"{result['agreement']:.6f} equal" if job["is_seg"] else f"{result['agreement']:.1e} of range"
        sizes = "×".join(map(str, job["shape_in"])) + " → " + "×".join(map(str, job["shape"]))
        bar = f"≥ {job['bar']}: {verdict(holds['speed'])}"
        rows.append((f"{job['name']}, {sizes}", *medians, f"{result['speed_up']:.1f}", bar, equal, verdict(holds["equal"]), *memory))
    columns = ("resampling", "ours s", "nnU-Net s", "times", "bar", "difference", "agrees", "ours MB", "nnU-Net MB")
    show_table(f"Resampling, {THREADS} threads; memory is beyond the input", columns, rows)
    return all(all(result["holds"].values()) for result in results)


def main() -> int:
    """The command; 0 when every bar holds."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.resample", description=__doc__.splitlines()[0])
    parser.add_argument("--peer", type=Path, required=True, help="nnU-Net's environment; made there if it is missing")
    parser.add_argument("--repeats", type=int, default=5, help="turns of both (default: 5)")
    parser.add_argument("--json", type=Path, default=Path("benchmark_results/resample.json"), help="where the result goes")
    arguments = parser.parse_args()
    about = machine()
    try:
        peer = make_peer(arguments.peer)
        with tempfile.TemporaryDirectory(prefix="autounet_benchmark_") as name:
            scratch = Path(name).resolve()
            results = [measure(peer, job, max(1, arguments.repeats), scratch / str(number)) for number, job in enumerate(JOBS)]
    except CommandFailed as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    holds = report(results)
    write_json(arguments.json, {"machine": about, "peer": PINNED, "results": results, "holds": holds})
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
