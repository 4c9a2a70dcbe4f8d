"""Which device and which number format the network runs with, from the plain values of Runtime."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch

from autounet.errors import UsageError
from autounet.runtime import Runtime


def pick_device(runtime: Runtime) -> torch.device:
    """The device to use; ``auto`` takes CUDA, then Apple's MPS, then the CPU. Each of several processes takes a GPU of its own.

    Raises:
        UsageError: The device asked for is not there.
    """
    name, processes = runtime.device, runtime.processes
    if processes.count > 1 and (name == "cuda" or (name == "auto" and torch.cuda.is_available())):
        name = f"cuda:{processes.local_rank}"
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"--device {name}: no such kind of device", expected="auto, cpu, cuda, cuda:1, …, or mps") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(
            f"--device {name}: not available", found=f"{torch.cuda.device_count()} CUDA devices", remedy="use --device cpu or auto"
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UsageError(f"--device {name}: not available on this machine", remedy="use --device cpu or auto")
    return device


def pick_precision(runtime: Runtime, device: torch.device) -> torch.dtype:
    """The type autocast computes in: bf16 where the hardware has it, else fp16 on GPUs, else float32.

    Raises:
        UsageError: An unknown precision, or fp16 on the CPU.
    """
    named = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    if runtime.precision in named:
        if runtime.precision == "fp16" and device.type == "cpu":
            raise UsageError("--precision fp16 is for GPUs", expected="fp32, bf16 or auto on the CPU")
        return named[runtime.precision]
    if runtime.precision != "auto":
        raise UsageError(f"--precision {runtime.precision} is unknown", expected=f"auto, {', '.join(named)}")
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if device.type == "cpu" and _cpu_has_bf16():
        return torch.bfloat16
    return torch.float32


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[None]:
    """Mixed precision for the network's forward pass; does nothing for float32."""
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)


OUT_OF_MEMORY = ("can't allocate memory", "out of memory")
"""What torch's messages say of it where the error is a plain RuntimeError: the CPU's and MPS's."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory, the host's or a GPU's, ran out."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in OUT_OF_MEMORY)


def free_cached() -> None:
    """Gives memory that torch keeps for later back to the GPUs."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def one_thread() -> None:
    """From now on torch computes in the calling thread alone, for work beside a network that takes all cores."""
    torch.set_num_threads(1)


@contextmanager
def threads_kept() -> Iterator[None]:
    """Around threads that call ``one_thread``: torch takes a thread's choice for threads that are still to come, and here it ends."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _cpu_has_bf16() -> bool:
    # Without the instructions bf16 is emulated and slower than float32. torch names the checks privately.
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(bool(getattr(torch.cpu, check, bool)()) for check in checks)
