"""What torch can compute on, and why not on more."""

import re
import warnings
from collections.abc import Sequence

import torch

from autounet.device import pick_device, pick_precision
from autounet.errors import UsageError
from autounet.machine.facts import Gpu, Torch
from autounet.runtime import Runtime

CPU_FEATURES = (
    ("avx2", "_is_avx2_supported"),
    ("avx512", "_is_avx512_supported"),
    ("avx512_bf16", "_is_avx512_bf16_supported"),
    ("amx", "_is_amx_tile_supported"),
)
"""torch names the checks privately; what it does not know is taken for not there."""


def look_at_torch(runtime: Runtime) -> Torch:
    """The build of torch, its GPUs, and what a command with these settings would compute on. May take long where a driver hangs."""
    problem = _cuda_problem()
    device = precision = refused = None
    try:
        picked = pick_device(runtime)
        device, precision = str(picked), str(pick_precision(runtime, picked)).removeprefix("torch.")
    except UsageError as error:
        refused = error.what
    return Torch(
        version=torch.__version__,
        cuda=torch.version.cuda,
        hip=torch.version.hip,
        cudnn=torch.backends.cudnn.version() if torch.backends.cudnn.is_available() else None,  # type: ignore[no-untyped-call]
        threads=torch.get_num_threads(),
        gpus=tuple(_gpu(index) for index in range(torch.cuda.device_count())) if problem is None and torch.cuda.is_available() else (),
        problem=problem,
        mps=torch.backends.mps.is_available(),
        device=device,
        precision=precision,
        refused=refused,
    )


def cpu_features() -> tuple[str, ...]:
    """Those of the CPU that make networks fast."""
    return tuple(name for name, check in CPU_FEATURES if getattr(torch.cpu, check, bool)())


def has_code_for(capability: tuple[int, int], architectures: Sequence[str]) -> bool:
    """Whether a build with code for these architectures (``sm_80``, ``compute_90``) runs on a GPU.

    Machine code (sm) runs on the same major number from its minor number on; code for the driver to translate (compute) on all later ones.
    Source: CUDA C++ Programming Guide, "Binary Compatibility" and "PTX Compatibility".
    """
    if not any(name.startswith(("sm_", "compute_")) for name in architectures):
        return True  # ROCm names others
    for kind, major, minor in (found.groups() for found in map(re.compile(r"(sm|compute)_(\d+)(\d)").match, architectures) if found):
        built = int(major), int(minor)
        if capability >= built and (kind == "compute" or capability[0] == built[0]):
            return True
    return False


def _cuda_problem() -> str | None:
    """Why CUDA does not start though torch was built for it; None where it does, or was not."""
    if torch.version.cuda is None and torch.version.hip is None:
        return None
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            if torch.cuda.is_available():
                torch.cuda.init()  # type: ignore[no-untyped-call]
                return None
            torch.cuda.init()  # type: ignore[no-untyped-call]
        except (RuntimeError, AssertionError) as error:
            return str(error).split("\n")[0]
    return str(said[0].message).split("\n")[0] if said else "no CUDA device"


def _gpu(index: int) -> Gpu:
    about = torch.cuda.get_device_properties(index)
    capability = (int(about.major), int(about.minor))
    with torch.cuda.device(index):
        free, total = torch.cuda.mem_get_info(index)
        bf16 = bool(torch.cuda.is_bf16_supported(including_emulation=False))
    known = torch.version.cuda is None or has_code_for(capability, torch.cuda.get_arch_list())
    return Gpu(name=str(about.name), total_bytes=int(total), free_bytes=int(free), capability=capability, bf16=bf16, known=known)
