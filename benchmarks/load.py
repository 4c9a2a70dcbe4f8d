"""Very many small cases and one very large one, in one dataset: memory of every command, and whether the time left was right.

2000 volumes of about 28³ voxels and one of 1024×1024×1000 (int16: 2 GB) go through `plan`, `doctor`, `preprocess` and `predict`. The
network has random weights: what it finds does not matter here. Every command writes a line about its progress now and then; afterwards
it is known how long it really took from each line on.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from autounet.checkpoint import save_weights
from autounet.layout import RunLayout
from autounet.networks.build import build_network
from autounet.plan import Plan
from benchmarks.measure import AUTOUNET, REPOSITORY, CommandFailed, _MemorySampler, machine, show_table, verdict, write_json

CONFIGURATION = "3d_fullres"
SMALL_MM, LARGE_MM = 1.5, 0.5
BASE_MB = 1300
"""What the program itself may take: Python, torch, two workers, and the small cases."""

BYTES_PER_VOXEL = {"plan": 9.0, "doctor": 12.0, "preprocess": 9.0, "predict": 9.0}
"""What a command may take beside that, of the large case: 4 of them are the image in float32."""

TIMES = {"s": 1, "min": 60, "h": 3600}
FAIR = (0.5, 2.0)
"""The time left is right when what it really took is between so many times of it, on lines with more than ``NEAR`` to go."""
NEAR_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Ran:
    """One command."""

    seconds: float
    peak_mb: float | None
    told: tuple[tuple[float, float], ...]
    """Of every line of progress: the time left that it gave, and the time that it really took."""


def make_dataset(folder: Path, small: int, large_zyx: Sequence[int]) -> None:
    """Balls in noise; the large case stands in the middle of the alphabet, uncompressed."""
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(small):
        shape = tuple(int(side) for side in rng.integers(24, 33, 3))
        _write(folder, f"small{number:04d}", shape, SMALL_MM, rng)
    _write(folder, f"small{small // 2:04d}_large", tuple(large_zyx), LARGE_MM, rng)
    description = {
        "channel_names": {"0": "MRI"},
        "labels": {"background": 0, "ball": 1},
        "numTraining": small + 1,
        "file_ending": ".nii.gz",
    }
    rows = [
        {"image": f"./imagesTr/{path.name}", "label": f"./labelsTr/{path.name.split('.')[0]}.nii.gz"}
        for path in sorted((folder / "imagesTr").iterdir())
    ]
    (folder / "dataset.json").write_text(json.dumps({**description, "training": rows}))


def _write(folder: Path, case: str, shape_xyz: tuple[int, ...], spacing_mm: float, rng: np.random.Generator) -> None:
    large = np.prod(shape_xyz) > 10**6
    x, y, z = (np.linspace(-1, 1, side, dtype=np.float32) for side in shape_xyz)
    plane = x[:, None] ** 2 + y[None] ** 2
    labels, image = np.empty(shape_xyz, np.uint8, order="F"), np.empty(shape_xyz, np.int16, order="F")
    noise = rng.integers(0, 100, shape_xyz[:2])
    for position, height in enumerate(z):
        inside = plane + height**2 < 0.25
        labels[..., position] = inside
        image[..., position] = 100 + np.roll(noise, position, axis=0) + 150 * inside
    affine = np.diag([-spacing_mm, -spacing_mm, spacing_mm, 1.0])
    nibabel.save(nibabel.Nifti1Image(image, affine), folder / "imagesTr" / f"{case}.nii{'' if large else '.gz'}")
    nibabel.save(nibabel.Nifti1Image(labels, affine), folder / "labelsTr" / f"{case}.nii.gz")


def run(command: Sequence[str | Path], log: Path) -> Ran:
    """Runs a command and notes when it said what. Raises CommandFailed."""
    words = [*AUTOUNET, *map(str, command)]
    began = time.monotonic()
    process = subprocess.Popen(
        words, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, encoding="utf-8", start_new_session=True
    )
    sampler = _MemorySampler(process.pid)
    sampler.start()
    lines: list[tuple[float, str]] = []
    assert process.stderr is not None
    for line in process.stderr:
        lines.append((time.monotonic(), line.rstrip()))
    process.wait()
    ended = time.monotonic()
    sampler.stop()
    log.write_text("\n".join(f"{at - began:8.1f} {line}" for at, line in lines) + "\n", encoding="utf-8")
    if process.returncode not in (0, 1) or (process.returncode and "doctor" not in words):
        raise CommandFailed(f"exit code {process.returncode}: {' '.join(words)}\n" + "\n".join(line for _, line in lines[-15:]))
    return Ran(ended - began, sampler.peak_mb, _told(lines, ended))


def _told(lines: Sequence[tuple[float, str]], ended: float) -> tuple[tuple[float, float], ...]:
    """A task ends where its line without a time left stands, or with the command."""
    found = []
    for number, (at, line) in enumerate(lines):
        match = re.fullmatch(r"(.+): \d+ of \d+, (.+) left", line)
        if match is None:
            continue
        title = match[1]
        over = next((then for then, other in lines[number + 1 :] if re.fullmatch(re.escape(title) + r": (\d+) of \1 in .+", other)), ended)
        left = sum(int(amount) * TIMES[unit] for amount, unit in re.findall(r"(\d+) (s|min|h)\b", match[2]))
        found.append((float(left), over - at))
    return tuple(found)


def fair(ran: Ran) -> bool:
    """Whether the times left were right, while there was something to wait for."""
    return all(FAIR[0] <= real / left <= FAIR[1] for left, real in ran.told if min(left, real) > NEAR_SECONDS)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load", description=__doc__.splitlines()[0])
    parser.add_argument("--small", type=int, default=2000, help="small cases (default: 2000)")
    parser.add_argument("--large", type=int, nargs=3, default=[1024, 1024, 1000], metavar=("X", "Y", "Z"), help="voxels of the large one")
    parser.add_argument("--out", type=Path, help="folder that is kept; by default a temporary one")
    parser.add_argument("--json", type=Path, default=Path("benchmark_results/load.json"), help="where the result goes")
    arguments = parser.parse_args()
    about, rows, results = machine(), [], dict[str, Any]()
    voxels, holds = int(np.prod(arguments.large)), True
    with tempfile.TemporaryDirectory(prefix="autounet_load_") as scratch:
        out = (arguments.out or Path(scratch)).resolve()
        data, runs = out / "Dataset900_Load", out / "runs"
        if not (data / "dataset.json").exists():
            make_dataset(data, arguments.small, arguments.large)
        common = ("--runs", runs, "-d", data)
        commands = {
            "plan": ("plan", *common, "--preset", "small"),
            "doctor": ("doctor", *common),
            "preprocess": ("preprocess", *common, "-c", CONFIGURATION),
            "predict": (
                "predict",
                *common,
                "-i",
                data / "imagesTr",
                "-o",
                out / "labels",
                "-c",
                CONFIGURATION,
                "--device",
                "cpu",
                "--no-mirror",
            ),
        }
        for name, command in commands.items():
            if name == "predict":
                random_weights(RunLayout(runs / data.name))
            try:
                ran = run(command, out / f"{name}.log")
            except CommandFailed as error:
                print(f"error: {error}", file=sys.stderr)
                return 1
            bar = BASE_MB + BYTES_PER_VOXEL[name] * voxels / 1e6
            small_enough, right = ran.peak_mb is None or ran.peak_mb <= bar, fair(ran)
            holds = holds and small_enough and right
            told = ", ".join(f"{left:.0f}→{real:.0f}" for left, real in ran.told)
            rows.append(
                (name, f"{ran.seconds:.0f} s", f"{ran.peak_mb or 0:.0f} MB", f"{bar:.0f} MB", verdict(small_enough), told, verdict(right))
            )
            results[name] = {"seconds": ran.seconds, "peak_mb": ran.peak_mb, "bar_mb": bar, "told_and_real_seconds": ran.told}
        labels = len(list((out / "labels").glob("*.nii*")))
    title = f"{arguments.small} small cases and one of {'×'.join(map(str, arguments.large))} voxels"
    show_table(title, ("", "time", "peak", "stated", "within", "time left: told→real (s)", "right"), rows)
    print(f"{labels} label maps of {arguments.small + 1}: {verdict(labels == arguments.small + 1)}")
    write_json(arguments.json, {"machine": about, "small": arguments.small, "large": arguments.large, "results": results})
    return 0 if holds and labels == arguments.small + 1 else 1


def random_weights(layout: RunLayout) -> None:
    """A fold that was never trained."""
    plan = Plan.load(layout.plan)
    network = plan.configurations[CONFIGURATION].network
    weights = build_network(network, seed=1).state_dict()
    save_weights(layout.fold(CONFIGURATION, "0").weights, weights, {"plan": plan.recipe(CONFIGURATION)})


if __name__ == "__main__":
    sys.exit(main())
