"""Extracting a fingerprint: our extraction against ``nnUNetv2_extract_fingerprint``, in turns, and whether the two agree.

``python -m benchmarks.fingerprint --peer DIR --dataset PATH [--dataset PATH …] [--repeats N] [--json FILE]``
"""

import argparse
import json
import math
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from autounet.dataset import DatasetSpec, read_dataset
from autounet.fingerprint import Fingerprint
from autounet.images import read_channels, read_labels
from autounet.planners.extract import FEWEST_QUANTILES_PER_CASE, MOST_SORTED, POOLED_QUANTILES, QUANTILES_PER_CASE
from benchmarks.measure import CommandFailed, Measured, machine, median_ratio, run_measured, show_table, verdict, write_json
from benchmarks.peer import PINNED, Peer, make_peer
from benchmarks.peer_dataset import as_nnunet_raw

PROCESSES = 2
"""Of the peer; autounet gets as many threads."""
BAR = 1 / 3
"""autounet takes at most this share of the peer's time."""
PEER_SAMPLES = 10**8
"""nnU-Net draws so many voxels, equally many from every case (``fingerprint_extractor.py``)."""
STANDARD_ERRORS = 5.0
"""What a random sample may be off; by chance once in a million times."""
ROUNDING = 1e-5
"""Of nnU-Net's sums over 10⁸ float32 numbers, as a share of the largest value."""
PERCENTILES = {"percentile_00_5": 0.005, "median": 0.5, "percentile_99_5": 0.995}


@dataclass(frozen=True, slots=True)
class Turn:
    """One repeat: both programs."""

    ours: Measured
    peer: Measured


@dataclass(frozen=True, slots=True)
class Statistic:
    """One number of one channel: exact, and what both programs say."""

    channel: int
    name: str
    exact: float
    ours: float
    peers: float
    ours_range: tuple[float, float]
    """What ours may be: it is exact, but for percentiles, which come from evenly spaced quantiles of every case."""
    peers_range: tuple[float, float]
    """What nnU-Net's may be: it draws voxels at random."""

    @property
    def holds(self) -> bool:
        """Both are where they may be."""
        return self.ours_range[0] <= self.ours <= self.ours_range[1] and self.peers_range[0] <= self.peers <= self.peers_range[1]


def take_turns(peer: Peer, dataset: Path, scratch: Path, repeats: int) -> tuple[list[Turn], Fingerprint, dict[str, Any]]:
    """All repeats; who begins changes every time. Returns the turns and both fingerprints of the last."""
    turns, number, name = [], 0, ""
    for repeat in range(repeats):
        folder, output = scratch / f"peer_{repeat}", scratch / f"ours_{repeat}.json"
        number, name = as_nnunet_raw(dataset, folder / "raw")
        theirs: list[str | Path] = ["nnUNetv2_extract_fingerprint", "-d", str(number), "-np", str(PROCESSES), "--clean"]
        mine: list[str | Path] = [sys.executable, "-m", "benchmarks.extract", dataset, output, str(PROCESSES)]
        if repeat % 2:
            peers = peer.run(theirs, folder, folder / "extract.log")
        ours = run_measured(mine, log=scratch / f"ours_{repeat}.log")
        if not repeat % 2:
            peers = peer.run(theirs, folder, folder / "extract.log")
        turns.append(Turn(ours, peers))
        print(f"repeat {repeat + 1} of {repeats}: autounet {ours.seconds:.1f} s, nnU-Net {peers.seconds:.1f} s", file=sys.stderr)
    made = json.loads((folder / "preprocessed" / name / "dataset_fingerprint.json").read_text(encoding="utf-8"))
    return turns, Fingerprint.load(output), made


def exact_differences(ours: Fingerprint, peers: Mapping[str, Any]) -> list[str]:
    """What must be the same to the last digit and is not: shapes and spacings case by case, and the relative size."""
    shapes = [list(case.shape_after_crop_zyx) for case in ours.cases]
    spacings = [list(case.spacing_mm_zyx) for case in ours.cases]
    found = {
        "number of cases": (len(ours.cases), len(peers["shapes_after_crop"])),
        "shapes after cropping": (shapes, peers["shapes_after_crop"]),
        "spacings": (spacings, peers["spacings"]),
        "median relative size": (ours.median_relative_size_after_crop, peers["median_relative_size_after_cropping"]),
    }
    return [name for name, (mine, theirs) in found.items() if mine != theirs]


def statistics_of(spec: DatasetSpec, ours: Fingerprint, peers: Mapping[str, Any]) -> list[Statistic]:
    """Every intensity statistic beside the exact one, computed here from all labelled voxels, with every case weighing the same."""
    found = []
    for channel, values in enumerate(_labelled_voxels(spec)):
        mine = ours.intensities[channel].model_dump()
        theirs = peers["foreground_intensity_properties_per_channel"][str(channel)]
        for name, (exact, ours_range, peers_range) in _expected(values, len(spec.cases)).items():
            found.append(Statistic(channel, name, exact, mine[name], theirs[name], ours_range, peers_range))
    return found


def _labelled_voxels(spec: DatasetSpec) -> list[list[npt.NDArray[np.float64]]]:
    """By channel and case."""
    channels: list[list[npt.NDArray[np.float64]]] = [[] for _ in spec.channels]
    for case in spec.cases:
        image, _ = read_channels(case.images, len(spec.channels))
        labels, _ = read_labels(case.label)
        # nnU-Net also counts voxels with the ignore label as labelled; without such a label there is nothing to tell apart.
        foreground = (labels > 0) & (labels != (spec.labels.ignore_value or 0))
        if foreground.any():
            for position, channel in enumerate(image):
                channels[position].append(channel[foreground].astype(np.float64))
    return channels


def _expected(
    cases: Sequence[npt.NDArray[np.float64]], total_cases: int
) -> dict[str, tuple[float, tuple[float, float], tuple[float, float]]]:
    """Exact value, our range and nnU-Net's range of every statistic."""
    values = np.concatenate(cases)
    weights = np.concatenate([np.full(len(case), 1 / (len(case) * len(cases))) for case in cases])
    mean = float(weights @ values)
    variance, fourth = float(weights @ (values - mean) ** 2), float(weights @ (values - mean) ** 4)
    std = math.sqrt(variance)
    drawn = PEER_SAMPLES // total_cases * len(cases)
    rounding = ROUNDING * float(np.abs(values).max())
    error_of_mean = STANDARD_ERRORS * std / math.sqrt(drawn) + rounding
    error_of_std = STANDARD_ERRORS * math.sqrt(fourth - variance**2) / (2 * std * math.sqrt(drawn)) + rounding
    small = 1e-9 * float(np.abs(values).max())
    expected = {
        "mean": (mean, _around(mean, small), _around(mean, error_of_mean)),
        "std": (std, _around(std, small), _around(std, error_of_std)),
    }
    for name, edge in (("min", float(values.min())), ("max", float(values.max()))):
        # A rare extreme may not be drawn: half a percent of the voxels lie beyond these.
        within = (edge, _quantile(values, weights, 0.005)) if name == "min" else (_quantile(values, weights, 0.995), edge)
        expected[name] = (edge, (edge, edge), within)
    kept = max(FEWEST_QUANTILES_PER_CASE, min(QUANTILES_PER_CASE, POOLED_QUANTILES // total_cases))
    for name, part in PERCENTILES.items():
        spread = math.sqrt(part * (1 - part))
        # Of cases beyond this size, ours sorts a random sample, too.
        ours_off = 1 / kept + (STANDARD_ERRORS * spread / math.sqrt(MOST_SORTED) if max(map(len, cases)) > MOST_SORTED else 0)
        peers_off = STANDARD_ERRORS * spread / math.sqrt(drawn)
        ours_range, peers_range = (
            (_quantile(values, weights, part - off), _quantile(values, weights, part + off)) for off in (ours_off, peers_off)
        )
        expected[name] = (_quantile(values, weights, part), ours_range, peers_range)
    return expected


def _around(value: float, distance: float) -> tuple[float, float]:
    return value - distance, value + distance


def _quantile(values: npt.NDArray[np.float64], weights: npt.NDArray[np.float64], part: float) -> float:
    """The smallest value below or at which this part of the weight lies."""
    order = np.argsort(values)
    position = np.searchsorted(np.cumsum(weights[order]), part)
    return float(values[order[min(int(position), len(values) - 1)]])


def report(spec: DatasetSpec, turns: Sequence[Turn], ours: Fingerprint, peers: Mapping[str, Any]) -> dict[str, Any]:
    """Prints the tables and returns the same as JSON."""
    ratio = median_ratio([turn.ours.seconds for turn in turns], [turn.peer.seconds for turn in turns])
    rows = [
        ("autounet, extraction alone", *_row([turn.ours for turn in turns])),
        ("nnUNetv2_extract_fingerprint", *_row([turn.peer for turn in turns])),
    ]
    show_table(f"{spec.name}, {len(spec.cases)} cases, {PROCESSES} workers", ("command", "median s", "each s", "peak MB"), rows)
    print(f"autounet / nnU-Net: {ratio:.3f} (median of {len(turns)}); at most a third: {verdict(ratio <= BAR)}")
    differences = exact_differences(ours, peers)
    print(f"shapes, spacings and relative size equal: {verdict(not differences)} {', '.join(differences)}")
    measured = statistics_of(spec, ours, peers)
    rows = [
        (
            f"{entry.channel} {entry.name}",
            *(f"{value:.6g}" for value in (entry.exact, entry.ours, entry.peers)),
            *("{:.6g} to {:.6g}".format(*ends) for ends in (entry.ours_range, entry.peers_range)),
            verdict(entry.holds),
        )
        for entry in measured
    ]
    columns = ("channel", "exact", "autounet", "nnU-Net", "autounet may be", "nnU-Net may be", "holds")
    show_table("Intensities of labelled voxels, every case weighing the same", columns, rows)
    intensities_agree = all(entry.holds for entry in measured)
    print(f"intensities within what sampling allows: {verdict(intensities_agree)}")
    return {
        "dataset": spec.name,
        "cases": len(spec.cases),
        "turns": [
            {name: {"seconds": run.seconds, "peak_mb": run.peak_mb} for name, run in (("ours", turn.ours), ("peer", turn.peer))}
            for turn in turns
        ],
        "median_ratio": ratio,
        "differences": differences,
        "intensities": [asdict(entry) for entry in measured],
        "holds": {"time": ratio <= BAR, "equal": not differences, "intensities_agree": intensities_agree},
    }


def _row(runs: Sequence[Measured]) -> tuple[str, str, str]:
    seconds = [run.seconds for run in runs]
    peaks = [run.peak_mb for run in runs if run.peak_mb is not None]
    memory = f"{max(peaks):.0f}" if peaks else "–"
    return f"{statistics.median(seconds):.2f}", ", ".join(f"{value:.2f}" for value in seconds), memory


def main() -> int:
    """The command; 0 when every bar holds."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fingerprint", description=__doc__.splitlines()[0])
    parser.add_argument("--peer", type=Path, required=True, help="nnU-Net's environment; made there if it is missing")
    parser.add_argument("--dataset", type=Path, action="append", required=True, help="dataset folder; may be given several times")
    parser.add_argument("--repeats", type=int, default=3, help="turns of both programs (default: 3)")
    parser.add_argument("--json", type=Path, default=Path("benchmark_results/fingerprint.json"), help="where the result goes")
    parser.add_argument("--scratch", type=Path, help="where the temporary folder is made (default: the system's place)")
    arguments = parser.parse_args()
    about, results = machine(), []
    try:
        peer = make_peer(arguments.peer)
        for path in arguments.dataset:
            spec = read_dataset(path.resolve())
            with tempfile.TemporaryDirectory(prefix="autounet_benchmark_", dir=arguments.scratch) as scratch:
                turns, ours, peers = take_turns(peer, path.resolve(), Path(scratch).resolve(), max(1, arguments.repeats))
            results.append(report(spec, turns, ours, peers))
    except CommandFailed as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    write_json(arguments.json, {"machine": about, "peer": PINNED, "datasets": results})
    return 0 if all(holds for result in results for holds in result["holds"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
