"""Scores → label map on a finer grid: ours and nnU-Net's, seconds, memory, and whether the labels are the same.

``python -m benchmarks.export --peer DIR [--brains FOLDER] [--repeats 3]``
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import ndimage

from autounet.geometry import Box, Grid, Trace, Triple
from autounet.inference.boundary import AxisMap
from autounet.inference.restore import LabelRestorer
from autounet.labels import LabelSpec, StructureClass
from benchmarks.measure import REPOSITORY, CommandFailed, machine, median_ratio, show_table, verdict, write_json
from benchmarks.peer import PINNED, Peer, make_peer

SPEED = 12.0
MEMORY_MB = 300.0
WHOLE_MB = 3072.0
NAIVE_MB = 7168.0
CLASSES, SIZE_IN, SIZE_OUT = 14, (100, 200, 200), (160, 320, 320)


def blob_scores(classes: int, shape: Triple, seed: int) -> np.ndarray:
    """Scores as a trained network gives them: an ellipsoid for each class, falling off smoothly, and some smooth noise."""
    rng = np.random.default_rng(seed)
    axes = np.meshgrid(*(np.linspace(-1, 1, size, dtype=np.float32) for size in shape), indexing="ij")
    scores = np.zeros((classes, *shape), np.float32)
    for number in range(1, classes):
        centre, radius = rng.uniform(-0.7, 0.7, 3), rng.uniform(0.15, 0.45, 3)
        distance = np.sqrt(sum(((axis - c) / r) ** 2 for axis, c, r in zip(axes, centre, radius, strict=True)))
        scores[number] = 12 * (1 - distance).clip(-2, 1)
    coarse = rng.standard_normal((classes, *(-(-size // 8) + 1 for size in shape)))
    for number in range(classes):
        scores[number] += ndimage.zoom(coarse[number], 8, order=1)[tuple(slice(size) for size in shape)]
    return scores


def brain_scores(path: Path) -> np.ndarray:
    """54 classes at 128³: a brain label map halved, every label's indicator blurred a little, as logits."""
    import nibabel

    image: Any = nibabel.load(path)
    values = np.asarray(image.dataobj)
    present = np.unique(values)
    halved = np.searchsorted(present, values[::2, ::2, ::2][:128, :128, :128])
    scores = np.empty((max(54, len(present)), *halved.shape), np.float32)
    for number in range(scores.shape[0]):
        share = ndimage.gaussian_filter((halved == number).astype(np.float32), 0.8)
        scores[number] = np.log(share + 1e-4)
    return scores


def spec_of(classes: int) -> LabelSpec:
    """Labels 0 to ``classes - 1``."""
    return LabelSpec(classes=tuple(StructureClass(name=f"c{value}", values=(value,)) for value in range(1, classes)))


def export_ours(job: dict[str, Any]) -> None:
    """One export in this process; prints seconds and memory as JSON."""
    scores = torch.from_numpy(np.load(job["scores"]))
    z, y, x = job["shape"]
    a, b, c = job["spacing"]
    grid = Grid(shape_zyx=(z, y, x), spacing_mm_zyx=(a, b, c))
    prepared: Triple = (scores.shape[1], scores.shape[2], scores.shape[3])
    trace = Trace(grid=grid, transpose=(0, 1, 2), box=Box(start=(0, 0, 0), stop=(z, y, x)), prepared_shape=prepared)
    before, began = _status_mb("VmRSS"), time.perf_counter()
    restorer = LabelRestorer(trace, (job["target"][0], job["target"][1], job["target"][2]), spec_of(job["classes"]))
    restorer.add(scores)
    found = restorer.labels_zyx()
    seconds = time.perf_counter() - began
    above, whole = _status_mb("VmHWM") - before, _status_mb("VmHWM")
    np.save(job["labels"], found)
    print(json.dumps({"seconds": seconds, "above_mb": above, "whole_mb": whole}))


def dense_labels(scores: np.ndarray, shape: Triple) -> tuple[np.ndarray, np.ndarray]:
    """Class by class in float64: the best class, and by how much it is better than the second."""
    best = np.full(shape, -np.inf)
    second, label = best.copy(), np.zeros(shape, np.int16)
    maps = [AxisMap.between(a, b, nearest=False) for a, b in zip(scores.shape[1:], shape, strict=True)]
    for number, score in enumerate(scores):
        dense = torch.from_numpy(score).double()
        for position, axis in enumerate(maps):
            first, after = dense.index_select(position, axis.cell), dense.index_select(position, axis.next_to(axis.cell))
            share = axis.share.view([-1 if place == position else 1 for place in range(3)])
            dense = first + (after - first) * share
        value = dense.numpy()
        better = value > best
        second = np.where(better, best, np.maximum(second, value))
        label[better] = number
        best = np.where(better, value, best)
    return label, best - second


def in_turns(job: dict[str, Any], peer: Peer, scratch: Path, repeats: int) -> dict[str, list[dict[str, float]]]:
    """Results of both programs, run one after the other; who begins changes."""
    found: dict[str, list[dict[str, float]]] = {"autounet": [], "nnU-Net": []}
    for repeat in range(repeats):
        for name in ("autounet", "nnU-Net") if repeat % 2 == 0 else ("nnU-Net", "autounet"):
            own = {**job, "labels": str(scratch / f"{name}.npy")}
            if name == "autounet":
                command = [sys.executable, "-m", "benchmarks.export", "--ours", json.dumps(own)]
                output = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
            else:
                output = peer.run(
                    ["python", REPOSITORY / "benchmarks" / "peer_export.py", json.dumps(own)], scratch, scratch / "peer.log"
                ).output
            found[name].append(json.loads(output.splitlines()[-1]))
    return found


def organs(peer: Peer, scratch: Path, repeats: int) -> dict[str, Any]:
    """14 classes, to a grid of four times as many voxels."""
    scores = blob_scores(CLASSES, SIZE_IN, 0)
    np.save(scratch / "scores.npy", scores)
    job = {"scores": str(scratch / "scores.npy"), "shape": SIZE_OUT, "spacing": (1, 1, 1), "target": (1.6, 1.6, 1.6), "classes": CLASSES}
    found = in_turns(job, peer, scratch, repeats)
    ours, theirs = np.load(scratch / "autounet.npy"), np.load(scratch / "nnU-Net.npy")
    different = int((ours != theirs).sum())
    expected, margin = dense_labels(scores, SIZE_OUT)
    ratio = median_ratio([row["seconds"] for row in found["nnU-Net"]], [row["seconds"] for row in found["autounet"]])
    above = max(row["above_mb"] for row in found["autounet"])
    limit = ours.nbytes / 2**20 + MEMORY_MB
    rows = [
        (name, *(f"{statistics.median(row[key] for row in found[name]):.2f}" for key in ("seconds", "above_mb")))
        for name in ("autounet", "nnU-Net")
    ]
    show_table(f"{CLASSES} classes, {SIZE_IN} → {SIZE_OUT}", ("export", "median s", "MB above the input"), rows)
    print(f"ratio {ratio:.1f} (bar {SPEED:g}): {verdict(ratio >= SPEED)}")
    print(f"{above:.0f} MB above the input (bar {limit:.0f}): {verdict(above <= limit)}")
    print(f"labels that differ from nnU-Net's: {different} of {ours.size}; from float64: {int((ours != expected).sum())}")
    if different:
        print(f"where they differ the best class leads by at most {margin[ours != theirs].max():.3g} (a tie in float32)")
    holds = ratio >= SPEED and above <= limit and (not different or margin[ours != theirs].max() < 1e-5)
    return {"runs": found, "ratio": ratio, "above_mb": above, "different": different, "holds": bool(holds)}


def brain(path: Path, peer: Peer, scratch: Path) -> dict[str, Any]:
    """54 classes from 128³ to 256³."""
    scores = brain_scores(path)
    np.save(scratch / "scores.npy", scores)
    shape: Triple = (256, 256, 256)
    job = {"scores": str(scratch / "scores.npy"), "shape": shape, "spacing": (1, 1, 1), "target": (2, 2, 2), "classes": scores.shape[0]}
    found = in_turns(job, peer, scratch, 1)
    ours, theirs = np.load(scratch / "autounet.npy"), np.load(scratch / "nnU-Net.npy")
    (mine,), (other,) = found["autounet"], found["nnU-Net"]
    different = int((ours != theirs).sum())
    expected, margin = dense_labels(scores, shape)
    unlike = int(((ours != expected) & (margin > 1e-5)).sum())
    rows = [(name, f"{row['seconds']:.1f}", f"{row['whole_mb']:.0f}") for name, row in (("autounet", mine), ("nnU-Net", other))]
    show_table(f"{scores.shape[0]} classes, 128³ → 256³ ({path.name})", ("export", "s", "MB in all"), rows)
    holds = mine["whole_mb"] < WHOLE_MB and other["whole_mb"] > NAIVE_MB and unlike == 0
    print(f"ours below {WHOLE_MB:.0f} MB in all, nnU-Net's above {NAIVE_MB:.0f}: {verdict(holds)}")
    print(f"{other['seconds'] / mine['seconds']:.1f} times faster")
    print(f"labels that differ from nnU-Net's: {different} of {ours.size}, from float64: {unlike}")
    return {"runs": found, "different": different, "unlike_float64": unlike, "holds": bool(holds)}


def _status_mb(name: str) -> float:
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith(name))


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.export", description=__doc__.splitlines()[0])
    parser.add_argument("--peer", type=Path, help="nnU-Net's environment; made there if it is missing")
    parser.add_argument("--brains", type=Path, help="folder of brain label maps; without it that part is left out")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--ours", help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path, default=Path("benchmark_results/export.json"), help="where the result goes")
    arguments = parser.parse_args()
    if arguments.ours:
        export_ours(json.loads(arguments.ours))
        return 0
    if arguments.peer is None:
        parser.error("--peer is needed")
    about = machine()
    try:
        peer = make_peer(arguments.peer)
        with tempfile.TemporaryDirectory(prefix="autounet_benchmark_") as folder:
            scratch = Path(folder).resolve()
            results = {"organs": organs(peer, scratch, arguments.repeats)}
            if arguments.brains is not None:
                results["brain"] = brain(sorted(arguments.brains.resolve().glob("*.nii.gz"))[0], peer, scratch)
    except (CommandFailed, subprocess.CalledProcessError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    write_json(arguments.json, {"machine": about, "peer_versions": PINNED, **results})
    return 0 if all(result["holds"] for result in results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
