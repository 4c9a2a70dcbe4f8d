"""Milliseconds of augmenting one batch of Hippocampus (9 patches of 40×56×40): ours, and with --peer nnU-Net's; --picture draws it.

``python -m benchmarks.augmentation --data DATA [--peer DIR] [--batches 60] [--rounds 3] [--picture docs/images/augmentation.png]``
"""

import argparse
import io
import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from torch import Tensor

from autounet.plan import Configuration, NetworkSpec, Normalization
from autounet.preprocessing.case import OUTSIDE
from autounet.preset import AugmentationKind
from autounet.rotation import rotation_rule
from autounet.training.augmentation.pipeline import Augmentation
from autounet.training.augmentation.policy import POLICIES
from autounet.training.augmentation.spatial import SpatialDraw, apply_spatial, rotation_matrix
from autounet.training.patches import patch_sizes
from benchmarks.measure import REPOSITORY, CommandFailed, machine, median_ratio, show_table, write_json
from benchmarks.peer import PINNED, Peer, make_peer

PATCH, BATCH = (40, 56, 40), 9
"""nnU-Net's plan for Hippocampus."""
WARM_UP = 5
HEART_PATCH = (112, 112)


def configuration(patch: tuple[int, ...]) -> Configuration:
    """As much of a plan as augmentation looks at: one channel, all axes mirrored."""
    ndim = len(patch)
    network = NetworkSpec(
        kind="plain",
        ndim=2 if ndim == 2 else 3,
        in_channels=1,
        outputs=3,
        features=(8, 8),
        strides=((1,) * ndim, (2,) * ndim),
        kernel_sizes=((3,) * ndim,) * 2,
        blocks_encoder=(1, 1),
        blocks_decoder=(1,),
    )
    return Configuration(
        name=f"{ndim}d",
        spacing_mm=(1.0,) * ndim,
        median_shape=tuple(map(float, patch)),
        patch_size=patch,
        batch_size=BATCH,
        batch_dice=False,
        normalization=(Normalization(scheme="zscore"),),
        network=network,
        mirror_axes=tuple(range(ndim)),
        decisions=(),
    )


def read(dataset: Path, case: str) -> tuple[np.ndarray, np.ndarray]:
    """Image, normalised, and labels (z, y, x)."""
    found = next(path for path in (dataset / "imagesTr").glob(f"{case}*.nii.gz"))
    image = np.asarray(nibabel.load(found).dataobj, np.float32).T  # type: ignore[attr-defined]
    labels = np.asarray(nibabel.load(dataset / "labelsTr" / f"{case}.nii.gz").dataobj).T.astype(np.int16)  # type: ignore[attr-defined]
    return (image - image.mean()) / image.std(), labels


def around(image: np.ndarray, labels: np.ndarray, centre: Sequence[float], size: Sequence[int]) -> tuple[Tensor, Tensor]:
    """A patch of a size about a place; beyond the case zeros and OUTSIDE."""
    starts = [round(middle - side / 2) for middle, side in zip(centre, size, strict=True)]
    pads = [(max(0, -start), max(0, start + side - whole)) for start, side, whole in zip(starts, size, image.shape, strict=True)]
    inside = tuple(slice(max(0, start), max(0, start + side + low)) for start, side, (low, _) in zip(starts, size, pads, strict=True))
    inside = tuple(slice(part.start, part.start + side) for part, side in zip(inside, size, strict=True))
    whole, whole_labels = np.pad(image, pads), np.pad(labels, pads, constant_values=OUTSIDE)
    return torch.from_numpy(np.ascontiguousarray(whole[inside])), torch.from_numpy(np.ascontiguousarray(whole_labels[inside]))


def hippocampi(dataset: Path) -> tuple[Tensor, Tensor]:
    """The first cases, each whole in the middle of its patch: (9, 1, *loaded), (9, *loaded)."""
    loaded = patch_sizes(configuration(PATCH), "nnunet").loaded
    cases = [path.name.removesuffix(".nii.gz") for path in sorted((dataset / "labelsTr").glob("[!.]*.nii.gz"))[:BATCH]]
    patches = []
    for case in cases:
        image, labels = read(dataset, case)
        patches.append(around(image, labels, [side / 2 for side in image.shape], loaded))
    return torch.stack([image[None] for image, _ in patches]), torch.stack([labels for _, labels in patches])


Seconds = list[tuple[float, float]]
"""Of each batch: on the clock, and of the CPU."""


def our_seconds(image: Tensor, labels: Tensor, batches: int) -> Seconds:
    """Draw and apply, in one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    augmentation, seconds = Augmentation(configuration(PATCH), (0, 1, 2)), []
    for number in range(WARM_UP + batches):
        wall, cpu = time.perf_counter(), time.process_time()
        draw = augmentation.draw(np.random.default_rng(number), BATCH, 1)
        augmentation.apply(image, labels, draw)
        seconds.append((time.perf_counter() - wall, time.process_time() - cpu))
    torch.set_num_threads(threads)
    return seconds[WARM_UP:]


def peer_seconds(peer: Peer, patches: Path, batches: int, scratch: Path) -> Seconds:
    """nnU-Net's, in its own environment. Raises CommandFailed."""
    degrees = math.degrees(rotation_rule(PATCH).max_angle_rad)
    job = {"patch": PATCH, "degrees": degrees, "patches": str(patches), "batches": batches, "warm_up": WARM_UP}
    command: list[str | Path] = ["python", REPOSITORY / "benchmarks" / "peer_augmentation.py", json.dumps(job)]
    lines = peer.run(command, scratch, scratch / "peer.log").output.splitlines()
    return [(wall, cpu) for wall, cpu in json.loads(lines[-1])]


def report(found: dict[str, list[Seconds]]) -> dict[str, Any]:
    """Prints the table and returns the same as JSON: mean milliseconds of a batch, median over the rounds, and the ratio."""
    means = {
        name: [[statistics.mean(column) * 1e3 for column in zip(*batches, strict=True)] for batches in rounds]
        for name, rounds in found.items()
    }
    rows = [
        (name, *(f"{statistics.median(column):.1f} ({min(column):.1f}–{max(column):.1f})" for column in zip(*rounds, strict=True)))
        for name, rounds in means.items()
    ]
    title = f"{BATCH} patches of {'×'.join(map(str, PATCH))}, one thread, means over the batches of a round"
    show_table(title, ("augmentation", "ms on the clock", "ms of the CPU"), rows)
    result: dict[str, Any] = {"milliseconds": means}
    if "nnU-Net" in means:
        columns = [list(zip(*means[name], strict=True)) for name in ("nnU-Net", "autounet")]
        result["ratios"] = [median_ratio(theirs, ours) for theirs, ours in zip(*columns, strict=True)]
        print("nnU-Net takes {:.1f} times as long on the clock, {:.1f} times of the CPU.".format(*result["ratios"]))
    return result


COLOURS = ("#22b8e6", "#f5b301", "#ef476f")
"""Of RV, MYO and LV."""
Shown = tuple[np.ndarray, np.ndarray]
"""One patch: image and labels."""


def draw_picture(data: Path, target: Path) -> None:
    """Every transform of nnU-Net's list, little and much, on a slice of a heart; below it random patches of each kind."""
    from matplotlib.figure import Figure
    from PIL import Image

    heart, labels = read(data / "Dataset102_Cardiac", "patient001_frame01")
    middle = int(np.argmax((labels > 0).sum((1, 2))))
    centre = np.argwhere(labels[middle] > 0).mean(0)
    columns = singly(heart[middle], labels[middle], centre)
    kinds = {kind: samples(heart[middle], labels[middle], centre, kind, len(columns)) for kind in POLICIES}
    figure = Figure(figsize=(16, 12.1), facecolor="white")
    heights = [1, 1, 0.32, *[1] * len(kinds)]
    grid = figure.add_gridspec(
        len(heights), len(columns), height_ratios=heights, wspace=0.04, hspace=0.04, left=0.045, right=0.998, top=0.918, bottom=0.006
    )
    for position, (title, pair) in enumerate(columns.items()):
        for row, (caption, shown) in enumerate(pair):
            axes = figure.add_subplot(grid[row, position])
            _show(axes, shown, caption)
            if row == 0:
                axes.set_title(title.replace("gamma of the", "gamma of\nthe"), fontsize=11)
    for row, (kind, shown_all) in enumerate(kinds.items(), 3):
        for position, shown in enumerate(shown_all):
            axes = figure.add_subplot(grid[row, position])
            _show(axes, shown, "")
            if position == 0:
                axes.set_ylabel(kind, fontsize=13, fontweight="bold", labelpad=8)
    figure.text(0.045, 0.972, "nnU-Net's list, one transform at a time", fontsize=15, fontweight="bold")
    figure.text(0.045, _below(grid, 2), "Random patches of each kind", fontsize=15, fontweight="bold")
    for position, name in enumerate(("right ventricle", "myocardium", "left ventricle")):
        figure.text(0.7 + 0.105 * position, 0.973, f"○ {name}", fontsize=12, color=COLOURS[position], fontweight="bold")
    target.parent.mkdir(parents=True, exist_ok=True)
    with io.BytesIO() as drawn:
        figure.savefig(drawn, dpi=80)
        Image.open(drawn).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(target, optimize=True)  # a third of the bytes
    print(f"written to {target}")


def _below(grid: Any, row: int) -> float:
    box = grid[row, 0].get_position(grid.figure)
    return float(box.y0 + 0.25 * box.height)


def singly(image: np.ndarray, labels: np.ndarray, centre: np.ndarray) -> dict[str, list[tuple[str, Shown]]]:
    """For each transform: caption and result of two strengths, at the ends of its range."""
    found: dict[str, list[tuple[str, Shown]]] = {}
    loaded = patch_sizes(configuration(HEART_PATCH), "nnunet").loaded
    large, large_labels = around(image, labels, centre, loaded)
    for title, changes in {
        "rotation": [("15°", rotation_matrix(np.radians([15.0]))), ("150°", rotation_matrix(np.radians([150.0])))],
        "scaling": [("× 0.7", np.eye(2) * 0.7), ("× 1.4", np.eye(2) * 1.4)],
    }.items():
        found[title] = []
        for caption, matrix in changes:
            draw = SpatialDraw(matrix[None], np.array([True]))
            turned, turned_labels = apply_spatial(large[None, None], large_labels[None], draw, HEART_PATCH)
            found[title].append((caption, (turned[0, 0].numpy(), turned_labels[0].numpy())))
    patch, patch_labels = around(image, labels, centre, HEART_PATCH)
    strengths: dict[str, list[tuple[str, list[float]]]] = {
        "noise": [("σ 0.05", [0.05]), ("σ 0.1", [0.1])],
        "blur": [("σ 0.5 voxels", [0.5, 0.5]), ("σ 1 voxel", [1.0, 1.0])],
        "brightness": [("× 0.75", [0.75]), ("× 1.25", [1.25])],
        "contrast": [("× 0.75", [0.75]), ("× 1.25", [1.25])],
        "low resolution": [("× 0.75", [0.75, 0.75]), ("× 0.5", [0.5, 0.5])],
        "gamma of the negative": [("γ 0.7", [0.7]), ("γ 1.5", [1.5])],
        "gamma": [("γ 0.7", [0.7]), ("γ 1.5", [1.5])],
    }
    for transform in POLICIES["nnunet"].intensity:
        found[transform.name] = [
            (caption, (transform.change(patch, values, 0).numpy(), patch_labels.numpy())) for caption, values in strengths[transform.name]
        ]
    found["mirroring"] = [
        (caption, (patch.flip(axes).numpy(), patch_labels.flip(axes).numpy()))
        for caption, axes in {"one axis": [1], "both": [0, 1]}.items()
    ]
    return found


def samples(image: np.ndarray, labels: np.ndarray, centre: np.ndarray, kind: AugmentationKind, count: int) -> list[Shown]:
    """Patches as training sees them, one draw each."""
    entry = configuration(HEART_PATCH)
    augmentation = Augmentation(entry, (0, 1), kind)
    patch, patch_labels = around(image, labels, centre, patch_sizes(entry, kind).loaded)
    draw = augmentation.draw(np.random.default_rng(12), count, 1)
    out, out_labels = augmentation.apply(patch.expand(count, 1, *patch.shape), patch_labels.expand(count, *patch.shape), draw)
    return [(one[0].numpy(), one_labels.numpy()) for one, one_labels in zip(out, out_labels, strict=True)]


def _show(axes: Any, shown: Shown, caption: str) -> None:
    image, labels = shown
    axes.imshow(image, cmap="gray", vmin=-1.5, vmax=4.0, interpolation="nearest")
    for label, colour in enumerate(COLOURS, 1):
        if (labels == label).any():
            axes.contour(labels == label, [0.5], colors=colour, linewidths=1.1)
    axes.set_xticks([])
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set_visible(False)
    if caption:
        dark = {"facecolor": "black", "alpha": 0.5, "linewidth": 0, "pad": 1.5}
        axes.text(0.04, 0.95, caption, transform=axes.transAxes, color="white", fontsize=9, va="top", bbox=dark)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.augmentation", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of Task04_Hippocampus and, for the picture, Dataset102_Cardiac")
    parser.add_argument("--peer", type=Path, help="nnU-Net's environment; made there if it is missing")
    parser.add_argument("--batches", type=int, default=60, help="timed batches of each round (default: 60)")
    parser.add_argument("--rounds", type=int, default=3, help="turns (default: 3)")
    parser.add_argument("--picture", type=Path, help="draws every transform and kind there, and measures nothing")
    parser.add_argument("--json", type=Path, default=Path("benchmark_results/augmentation.json"), help="where the result goes")
    arguments = parser.parse_args()
    if arguments.picture is not None:
        draw_picture(arguments.data, arguments.picture)
        return 0
    about = machine()
    image, labels = hippocampi(arguments.data / "Task04_Hippocampus")
    found: dict[str, list[Seconds]] = {}
    try:
        peer = None if arguments.peer is None else make_peer(arguments.peer)
        with tempfile.TemporaryDirectory(prefix="autounet_benchmark_") as folder:
            scratch = Path(folder).resolve()
            np.savez(scratch / "patches.npz", image=image.numpy(), labels=labels.numpy())
            for _ in range(arguments.rounds):
                found.setdefault("autounet", []).append(our_seconds(image, labels, arguments.batches))
                if peer is not None:
                    found.setdefault("nnU-Net", []).append(peer_seconds(peer, scratch / "patches.npz", arguments.batches, scratch))
    except CommandFailed as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    write_json(arguments.json, {"machine": about, "peer_versions": PINNED if peer else None, **report(found)})
    return 0


if __name__ == "__main__":
    sys.exit(main())
