"""A volume of 600×512×512 voxels and 25 classes, predicted under a memory cap of 6 GB: ours by the public command, and nnU-Net's way.

The cap is the system's limit on a process's data (``ulimit -d``: heap and anonymous maps, as a container's limit would count them;
files that are mapped do not count). Beyond it the next request for memory fails. Nothing needs special rights.

Ours is the whole command: reading, preparing, a small 3D network with random weights, restoring, writing. Of nnU-Net only its window and
its export run, with a network that costs nothing: it has everything easier.
"""

import argparse
import json
import shlex
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch

from autounet.checkpoint import save_weights
from autounet.labels import LabelSpec, StructureClass
from autounet.layout import RunLayout
from autounet.networks.build import build_network
from autounet.plan import Configuration, LossSpec, NetworkSpec, Normalization, Plan, PlanRequest
from autounet.planners.presets import PRESETS
from autounet.preset import NNUNET_OPTIMIZER
from benchmarks.measure import AUTOUNET, REPOSITORY, CommandFailed, Measured, machine, run_measured, show_table, verdict, write_json
from benchmarks.peer import PINNED, Peer, make_peer

CAP_GB = 6.0
SHAPE_ZYX = (600, 512, 512)
SPACING_MM = 0.8
CLASSES = 24
PATCH = (128, 128, 128)
CONFIGURATION = "3d_fullres"


def make_volume(path: Path, shape_zyx: tuple[int, int, int]) -> None:
    """A CT of smooth blobs in an elliptic body with air around, int16."""
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.normal(size=(1, 1, *(max(size // 32, 2) for size in shape_zyx))).astype(np.float32))
    smooth = torch.nn.functional.interpolate(coarse, size=shape_zyx, mode="trilinear")[0, 0].numpy()
    y, x = np.ogrid[-1 : 1 : shape_zyx[1] * 1j, -1 : 1 : shape_zyx[2] * 1j]
    volume = np.where((y / 0.7) ** 2 + (x / 0.9) ** 2 < 1, 40 + 120 * smooth, -1000).astype(np.int16)
    affine = np.diag([-SPACING_MM, -SPACING_MM, SPACING_MM, 1.0])
    nibabel.save(nibabel.Nifti1Image(volume.transpose(2, 1, 0), affine), path)


def make_run(folder: Path, target_mm: float, features: Sequence[int]) -> Path:
    """A run folder with a plan for 25 outputs and a trained fold of random weights."""
    labels = LabelSpec(classes=tuple(StructureClass(name=f"class {value}", values=(value,)) for value in range(1, CLASSES + 1)))
    stages = len(features)
    network = NetworkSpec(
        kind="plain",
        ndim=3,
        in_channels=1,
        outputs=labels.outputs,
        features=tuple(features),
        strides=((1, 1, 1), *((2, 2, 2),) * (stages - 1)),
        kernel_sizes=((3, 3, 3),) * stages,
        blocks_encoder=(1,) * stages,
        blocks_decoder=(1,) * (stages - 1),
    )
    configuration = Configuration(
        name=CONFIGURATION,
        spacing_mm=(target_mm,) * 3,
        median_shape=tuple(size * SPACING_MM / target_mm for size in SHAPE_ZYX),
        patch_size=PATCH,
        batch_size=2,
        batch_dice=False,
        normalization=(Normalization(scheme="ct", lower=-900, upper=400, mean=40, std=150),),
        network=network,
        mirror_axes=(),
        decisions=(),
    )
    plan = Plan(
        made_from={},
        dataset="Dataset999_Big",
        request=PlanRequest(preset=PRESETS["nnunet"]),
        epochs=1,
        optimizer=NNUNET_OPTIMIZER,
        augmentation="nnunet",
        loss=LossSpec(),
        ndim=3,
        channels=("CT",),
        labels=labels,
        file_ending=".nii.gz",
        transpose=(0, 1, 2),
        configurations={CONFIGURATION: configuration},
        decisions=(),
    )
    layout = RunLayout(folder)
    plan.save(layout.plan)
    weights = build_network(network, seed=1).state_dict()
    save_weights(layout.fold(CONFIGURATION, "0").weights, weights, {"plan": plan.recipe(CONFIGURATION)})
    return folder


def capped(command: Sequence[str | Path], cap_gb: float) -> list[str]:
    """The same command under the limit."""
    return ["sh", "-c", f"ulimit -d {int(cap_gb * 1e9 / 1024)}; exec {shlex.join(map(str, command))}"]


def run_ours(run: Path, image: Path, output: Path, cap_gb: float) -> Measured:
    """The public command, under the cap. Raises CommandFailed."""
    command = [*AUTOUNET, "predict", "-m", run, "-i", image, "-o", output, "--device", "cpu", "--overwrite"]
    return run_measured(capped(command, cap_gb), log=output.parent / f"{run.name}.log")


def run_theirs(peer: Peer, target_mm: float, scratch: Path, cap_gb: float) -> dict[str, Any]:
    """nnU-Net's window and export, under the cap: how far they came, and the peak."""
    job = {
        "shape": SHAPE_ZYX,
        "prepared": [round(size * SPACING_MM / target_mm) for size in SHAPE_ZYX],
        "spacing": [SPACING_MM] * 3,
        "target": [target_mm] * 3,
        "patch": PATCH,
        "outputs": CLASSES + 1,
    }
    script = [peer.python, REPOSITORY / "benchmarks" / "peer_big_volume.py", json.dumps(job)]
    output = run_measured(capped(script, cap_gb), log=scratch / "peer.log", env=peer.environment(scratch)).output
    found: dict[str, Any] = json.loads(output.splitlines()[-1])
    return found


def check_output(image: Path, output: Path) -> int:
    """Classes in the label map; raises CommandFailed where it is not on the image's grid."""
    source, labels = nibabel.load(image), nibabel.load(output)
    if labels.shape != source.shape or not np.array_equal(labels.affine, source.affine):
        raise CommandFailed(f"{output}: is not on the image's grid")
    return len(np.unique(np.asarray(labels.dataobj)))


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.big_volume", description=__doc__.splitlines()[0])
    parser.add_argument("--peer", type=Path, help="nnU-Net's environment; made there if it is missing")
    parser.add_argument("--target", type=float, nargs="+", default=[1.5], help="the network's spacings in mm, one run each (default: 1.5)")
    parser.add_argument("--features", type=int, nargs="+", default=[8, 16, 32, 32], help="of the network's stages")
    parser.add_argument("--cap", type=float, default=CAP_GB, help="GB (default: 6)")
    parser.add_argument("--json", type=Path, default=Path("benchmark_results/big_volume.json"), help="where the result goes")
    arguments = parser.parse_args()
    about, rows, results = machine(), [], []
    try:
        peer = None if arguments.peer is None else make_peer(arguments.peer)
        with tempfile.TemporaryDirectory(prefix="autounet_benchmark_") as folder:
            scratch = Path(folder).resolve()
            image, output = scratch / "volume.nii.gz", scratch / "labels.nii.gz"
            make_volume(image, SHAPE_ZYX)
            for target in arguments.target:
                run = make_run(scratch / f"run_{target:g}", target, arguments.features)
                ours = run_ours(run, image, output, arguments.cap)
                found = check_output(image, output)
                results.append({"target_mm": target, "seconds": ours.seconds, "peak_mb": ours.peak_mb, "classes": found})
                rows.append((f"autounet predict, {target:g} mm", "written", f"{ours.peak_mb or 0:.0f} MB", f"{ours.seconds:.0f} s"))
            if peer is not None:
                theirs = run_theirs(peer, arguments.target[0], scratch, arguments.cap)
                results.append({"peer": theirs})
                said = theirs["failure"] or "written"
                rows.append(
                    (f"nnU-Net, {arguments.target[0]:g} mm", f"{theirs['reached']}: {said}", f"{theirs['peak_gb'] * 1000:.0f} MB", "–")
                )
    except CommandFailed as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    show_table(f"600×512×512 voxels, 25 classes, cap {arguments.cap:g} GB", ("", "result", "peak", "time"), rows)
    exceeds = None if peer is None else results[-1]["peer"]["reached"] != "done"
    print(f"predicted under the cap: {verdict(True)}" + ("" if exceeds is None else f"; nnU-Net exceeds it: {verdict(exceeds)}"))
    write_json(arguments.json, {"machine": about, "peer_versions": PINNED if peer else None, "cap_gb": arguments.cap, "results": results})
    return 0 if exceeds in (None, True) else 1


if __name__ == "__main__":
    sys.exit(main())
