"""All scores of ``autounet evaluate``: how fast, and whether they are those of the reference implementations.

``python -m benchmarks.metrics --dataset DATA/Task04_Hippocampus [--peer PEER] [--monai PYTHON] [--brains FOLDER] [--repeats 3]``

Predictions are the dataset's own label maps, bent a little, with a few islands, and in every 90th case without its last class.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import surface_distance
from scipy import ndimage

from autounet.evaluation.case import ClassScore
from autounet.evaluation.folders import evaluate_folders
from autounet.evaluation.scores import Scores
from autounet.runtime import Runtime
from benchmarks.measure import AUTOUNET, machine, run_measured, show_table, verdict, write_json
from benchmarks.peer import make_peer

SECONDS = 15.0
DICE = 1e-9
DISTANCE_MM = 1e-6
TOLERANCE_MM = 1.0


def bent(labels: np.ndarray, seed: int, voxels: float, islands: int) -> np.ndarray:
    """A label map as a network might draw it: moved by a smooth field of some voxels, with small islands of its classes."""
    rng = np.random.default_rng(seed)
    coarse = [-(-size // 8) + 1 for size in labels.shape]
    places = np.indices(labels.shape, np.float32)
    for axis in range(3):
        field = ndimage.zoom(rng.standard_normal(coarse), 8, order=1)[tuple(slice(size) for size in labels.shape)]
        places[axis] += voxels * field
    moved = ndimage.map_coordinates(labels, places, order=0)
    for _ in range(islands):
        corner = [int(rng.integers(0, size - 2)) for size in labels.shape]
        moved[tuple(slice(start, start + 2) for start in corner)] = rng.choice(np.unique(labels)[1:])
    return moved


def write_predictions(truths: Path, out: Path) -> list[int]:
    """A prediction for every label map; returns the label values of the first."""
    out.mkdir(parents=True)
    values: list[int] = []
    for number, file in enumerate(sorted(truths.glob("[!.]*.nii.gz"))):
        image: Any = nibabel.load(file)
        labels = np.asarray(image.dataobj).astype(np.uint8)
        values = values or [int(value) for value in np.unique(labels)[1:]]
        found = bent(labels, number, 0.8 + 0.4 * (number % 4), number % 3)
        if number % 90 == 7:
            found[found == values[-1]] = 0
        nibabel.save(nibabel.Nifti1Image(found, image.affine, image.header), out / file.name)
    return values


def reference_scores(prediction: np.ndarray, truth: np.ndarray, spacing_mm: tuple[float, ...]) -> tuple[dict[str, float], bool]:
    """Scores by surface-distance, and whether exactly 95 % of a surface lie within a distance, where rounding decides."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = surface_distance.compute_surface_distances(truth, prediction, spacing_mm)
    areas = [found[f"surfel_areas_{mask}"] for mask in ("gt", "pred")]
    distances = [found[f"distances_{way}"] for way in ("gt_to_pred", "pred_to_gt")]
    scores = {
        "dice": float(surface_distance.compute_dice_coefficient(truth, prediction)),
        "hd95_mm": float(surface_distance.compute_robust_hausdorff(found, 95)),
        "assd_mm": sum(float(d @ a) for d, a in zip(distances, areas, strict=True)) / sum(float(a.sum()) for a in areas),
        "nsd": float(surface_distance.compute_surface_dice_at_tolerance(found, TOLERANCE_MM)),
    }
    return scores, any(np.isclose(a.cumsum() / a.sum(), 0.95, rtol=1e-9).any() for a in areas)


def beside_reference(scores: Scores, truths: Path, predictions: Path) -> dict[str, Any]:
    """The largest differences over all cases and classes (named by their values) in which both masks are there."""
    largest, seconds, compared, ties = dict.fromkeys(("dice", "hd95_mm", "assd_mm", "nsd"), 0.0), 0.0, 0, 0
    for case, classes in scores.cases.items():
        images: list[Any] = [nibabel.load(folder / f"{case}.nii.gz") for folder in (predictions, truths)]
        maps = [np.asarray(image.dataobj) for image in images]
        spacing = tuple(float(value) for value in images[1].header.get_zooms())
        for name, score in classes.items():
            masks = [values == int(name) for values in maps]
            if not all(mask.any() for mask in masks):
                continue
            began = time.perf_counter()
            expected, tie = reference_scores(masks[0], masks[1], spacing)
            seconds, compared, ties = seconds + time.perf_counter() - began, compared + 1, ties + tie
            for metric in largest:
                if not (tie and metric == "hd95_mm"):
                    largest[metric] = max(largest[metric], abs(expected[metric] - getattr(score, metric)))
    return {"largest_difference": largest, "masks": compared, "ties": ties, "seconds": seconds}


def beside_nnunet(scores: Scores, truths: Path, predictions: Path, peer_folder: Path, scratch: Path, values: list[int]) -> dict[str, Any]:
    """Dice, IoU and counts that are not equal to nnU-Net's to the last digit."""
    out = scratch / "nnunet.json"
    command = ["python", Path(__file__).parent / "peer_metrics.py", truths, predictions, out, *map(str, values)]
    measured = make_peer(peer_folder).run(command, scratch / "peer", scratch / "peer.log")
    found = json.loads(out.read_text())
    names = {"Dice": "dice", "IoU": "iou", "TP": "tp", "FP": "fp", "FN": "fn"}
    compared = different = 0
    for row in found["metric_per_case"]:
        case = Path(row["reference_file"]).name.removesuffix(".nii.gz")
        for value in values:
            score = scores.cases[case][str(value)]
            theirs = row["metrics"][str(value)]
            for theirs_name, ours_name in names.items():
                expected, ours = theirs[theirs_name], getattr(score, ours_name)
                compared += 1
                different += not (expected == ours or (ours is None and np.isnan(expected)))
    means = [abs(found["mean"][str(value)][name] - getattr(scores.classes[str(value)], ours)) for value in values for name, ours in
             (("Dice", "dice"), ("IoU", "iou"))]  # fmt: skip
    return {"compared": compared, "different": different, "largest_difference_of_means": max(means), "seconds": measured.seconds}


def beside_monai(scores: Scores, truths: Path, predictions: Path, python: Path, scratch: Path, values: list[int]) -> dict[str, Any]:
    """Means of both over the same masks, and the largest difference of the surface Dice by the same definition."""
    out = scratch / "monai.json"
    command = [python, Path(__file__).parent / "peer_monai.py", truths, predictions, out, *map(str, values)]
    measured = run_measured(command, log=scratch / "monai.log")
    pairs: list[tuple[dict[str, float], ClassScore]] = [
        (theirs, scores.cases[case][name]) for case, classes in json.loads(out.read_text()).items() for name, theirs in classes.items()
    ]
    ours = {name: statistics.fmean(getattr(score, name) for _, score in pairs) for name in ("hd95_mm", "assd_mm", "nsd")}
    theirs = {name: statistics.fmean(row[name] for row, _ in pairs) for name in ("hd95", "assd", "nsd_voxels", "nsd_elements")}
    nsd = max(abs(row["nsd_elements"] - (score.nsd or 0.0)) for row, score in pairs)
    return {"masks": len(pairs), "ours": ours, "monai": theirs, "largest_difference_nsd_elements": nsd, "seconds": measured.seconds}


def brain(folder: Path, scratch: Path) -> dict[str, Any]:
    """One large label map of many classes and its bent copy: seconds and memory of the whole command."""
    file = min(folder.glob("*.nii.gz"))
    image: Any = nibabel.load(file)
    labels = np.asarray(image.dataobj).astype(np.int32)
    for name, values in (("truth", labels), ("found", bent(labels, 0, 1.0, 20))):
        (scratch / name).mkdir()
        nibabel.save(nibabel.Nifti1Image(values, image.affine), scratch / name / "brain.nii.gz")
    command = [*AUTOUNET, "evaluate", "-p", scratch / "found", "-g", scratch / "truth", "--json", "--workers", "2"]
    measured = run_measured(command, log=scratch / "brain.log")
    return {
        "shape": list(labels.shape),
        "classes": len(json.loads(measured.output)["classes"]),
        "seconds": measured.seconds,
        "peak_mb": measured.peak_mb,
    }


def main() -> int:
    """Runs the measurements that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--peer", type=Path)
    parser.add_argument("--monai", type=Path, help="a Python in whose environment MONAI is")
    parser.add_argument("--brains", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, default=Path("benchmark_results/metrics.json"))
    options = parser.parse_args()
    result: dict[str, Any] = {"machine": machine()}
    with tempfile.TemporaryDirectory(prefix="autounet_benchmark_") as name:
        scratch, truths = Path(name), options.dataset.resolve() / "labelsTr"
        predictions = scratch / "predictions"
        values = write_predictions(truths, predictions)
        command = [*AUTOUNET, "evaluate", "-p", predictions, "-g", truths, "--json", "--workers", "2"]
        seconds = [run_measured(command, log=scratch / "ours.log").seconds for _ in range(options.repeats)]
        scores = evaluate_folders(predictions, truths, None, Runtime(workers=2), tolerance_mm=TOLERANCE_MM)
        result["seconds"] = seconds
        result["reference"] = beside_reference(scores, truths, predictions)
        if options.peer is not None:
            result["nnunet"] = beside_nnunet(scores, truths, predictions, options.peer, scratch, values)
        if options.monai is not None:
            result["monai"] = beside_monai(scores, truths, predictions, options.monai, scratch, values)
        if options.brains is not None:
            result["brain"] = brain(options.brains, scratch)
    holds = show(result, scores)
    write_json(options.json, result)
    return 0 if holds else 1


def show(result: dict[str, Any], scores: Scores) -> bool:
    """Prints the results; whether all bars hold."""
    reference = result["reference"]
    largest = reference["largest_difference"]
    bars = {"dice": DICE, "hd95_mm": DISTANCE_MM, "assd_mm": DISTANCE_MM, "nsd": DICE}
    rows = [(name, f"{largest[name]:.1e}", f"{bar:.0e}", verdict(largest[name] <= bar)) for name, bar in bars.items()]
    title = f"{reference['masks']} masks beside surface-distance ({reference['seconds']:.1f} s in it; {reference['ties']} ties at 95 %)"
    show_table(title, ("score", "largest difference", "bar", "holds"), rows)
    median = statistics.median(result["seconds"])
    each = ", ".join(f"{value:.1f}" for value in result["seconds"])
    fast = median <= SECONDS
    print(f"{len(scores.cases)} cases, all scores, whole command: {median:.1f} s ({each}); bar {SECONDS:g}: {verdict(fast)}")
    holds = fast and all(largest[name] <= bar for name, bar in bars.items())
    if "nnunet" in result:
        nnunet = result["nnunet"]
        holds = holds and not nnunet["different"]
        print(
            f"nnU-Net: {nnunet['different']} of {nnunet['compared']} numbers differ; means by {nnunet['largest_difference_of_means']:.1e}"
        )
        print(f"its evaluation (Dice, IoU, counts alone): {nnunet['seconds']:.1f} s")
    if "monai" in result:
        print(f"MONAI beside it, means of {result['monai']['masks']} masks: {json.dumps(result['monai'])}")
    if "brain" in result:
        print(f"brain: {json.dumps(result['brain'])}")
    return holds


if __name__ == "__main__":
    sys.exit(main())
