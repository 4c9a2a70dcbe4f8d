"""One resampling in a fresh process, for ``benchmarks/resample.py``: by autounet, or by nnU-Net in its own environment.

Arguments: ``ours`` or ``peer``, a folder with ``input.npy`` (z, y, x), and a JSON object. Writes ``ours.npy`` or ``peer.npy``; the
last line printed is a JSON object with the seconds, and the memory needed beyond the input in MB (Linux only, else null).
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

Resample = Callable[[], Any]


def main() -> None:
    """The command."""
    who, folder, job = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])
    torch.set_num_threads(job["threads"])
    source = np.load(folder / "input.npy")
    resample = (_ours if who == "ours" else _peers)(source, job)
    before_mb = _memory_mb(reset=True)
    began = time.perf_counter()
    found = resample()
    seconds = time.perf_counter() - began
    peak_mb = None if before_mb is None else (_memory_mb() or 0) - before_mb
    np.save(folder / f"{who}.npy", np.asarray(found))
    print(json.dumps({"seconds": seconds, "peak_mb": peak_mb}))


def _ours(source: Any, job: dict[str, Any]) -> Resample:
    from autounet.preprocessing.resample import resample_image, resample_labels
    from autounet.preprocessing.spacing import separate_axis

    a, b, c = job["shape"]
    axis = separate_axis(tuple(job["spacing"]), tuple(job["target"]))
    if job["is_seg"]:
        return lambda: resample_labels(torch.from_numpy(source), (a, b, c), axis).numpy()
    return lambda: resample_image(torch.from_numpy(source)[None], (a, b, c), axis).numpy()[0]


def _peers(source: Any, job: dict[str, Any]) -> Resample:
    from nnunetv2.preprocessing.resampling.default_resampling import resample_data_or_seg_to_shape

    source = source[None].astype(np.float32)  # its readers give both images and label maps so
    # Source of the numbers: nnunetv2 2.8.1, default_experiment_planner.py, determine_resampling.
    options = {"is_seg": job["is_seg"], "order": 1 if job["is_seg"] else 3, "order_z": 0, "force_separate_z": None}
    return lambda: resample_data_or_seg_to_shape(source, job["shape"], job["spacing"], job["target"], **options)[0]


def _memory_mb(reset: bool = False) -> float | None:
    """The process's largest memory since the last reset, which makes it the present one."""
    try:
        if reset:
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:")), None)


if __name__ == "__main__":
    main()
