"""What was found out about a machine: plain values, so that advice can be tested without the machine."""

from typing import Literal

from autounet.artefact import Frozen

Severity = Literal["severe", "warning", "notice"]
"""``severe``: work fails or its results are wrong. ``warning``: it is much slower than need be, or may fail. ``notice``: good to know."""

SEVERITIES: tuple[Severity, ...] = ("severe", "warning", "notice")
"""Worst first."""


class Advice(Frozen):
    """One thing to know about the machine."""

    severity: Severity
    about: str
    """One or two words: ``GPU``, ``run folder``."""
    what: str
    advice: str
    """What to do about it."""


class Gpu(Frozen):
    """One that torch can use."""

    name: str
    total_bytes: int
    free_bytes: int
    capability: tuple[int, int]
    """NVIDIA's compute capability."""
    bf16: bool
    """In hardware."""
    known: bool
    """Whether this build of torch has code for it."""


class Torch(Frozen):
    """torch, and what it may compute on."""

    version: str
    cuda: str | None
    """The CUDA it was built with; None for a build without."""
    hip: str | None
    """The same for AMD's ROCm."""
    cudnn: int | None
    """As cuDNN counts: 91002 is 9.10.2."""
    threads: int
    gpus: tuple[Gpu, ...]
    problem: str | None
    """Why CUDA cannot be used though torch was built with it, in torch's words."""
    mps: bool
    device: str | None
    """What would be used; None where the one that was asked for is not there."""
    precision: str | None
    refused: str | None
    """Why device or precision cannot be had."""


class Cards(Frozen):
    """NVIDIA's cards as the system sees them, whatever torch can do with them."""

    names: tuple[str, ...]
    driver: str | None
    visible: str | None
    """CUDA_VISIBLE_DEVICES; None where it is not set."""


class Processor(Frozen):
    """The CPU and what of it may be used."""

    name: str
    present: int
    """Cores of the machine, as the system counts them."""
    allowed: int
    """Those that this process may run on."""
    quota: float | None
    """Time that control groups leave, in cores."""
    asked: int | None
    """What a Slurm job asked for by task."""
    used: int
    """What autounet takes for its own."""
    workers: int
    """Threads that read and prepare."""
    omp_threads: str | None
    """OMP_NUM_THREADS."""
    features: tuple[str, ...]
    """Of avx2, avx512, avx512_bf16, amx those that are there; empty also where torch does not tell."""


class Memory(Frozen):
    """In bytes; None where the system does not tell, or nothing limits."""

    total: int | None
    available: int
    """What autounet goes by: the least of all limits."""
    group_limit: int | None
    own_limits: dict[str, int]
    swap: int | None
    shared_memory: int | None
    """Size of /dev/shm."""


class Disk(Frozen):
    """A folder and the disk it lies on."""

    purpose: str
    """``run folder``, ``data``."""
    path: str
    file_system: str | None
    remote: bool
    free_bytes: int | None
    write_mb_s: float | None = None
    read_mb_s: float | None = None
    pieces_mb_s: float | None = None
    """Reading pieces of 256 kB at random places, as patches are read."""
    cached: bool = False
    """Reading may have been from memory, as the system could not be told to forget."""
    problem: str | None = None
    """Why it cannot be used, or was not measured."""


class System(Frozen):
    """The rest."""

    platform: str
    output_encoding: str
    file_encoding: str
    open_files: int | None
    """Limit of this process."""
    long_paths: bool | None
    """Whether paths beyond 260 characters work; None where that is no question."""


class SelfTest(Frozen):
    """A tiny network, trained for some steps on balls in shells, and asked about one it has not seen.

    What is not a finite number is None.
    """

    steps: int
    first_loss: float | None
    """Mean of the first quarter of the steps."""
    last_loss: float | None
    """Mean of the last quarter."""
    dice: float | None
    """Mean over both structures of the unseen case."""
    step_seconds: float
    batch_seconds: float
    """Reading a batch, with nothing else going on."""
    predict_seconds: float
    """The unseen case."""
    deviation: float | None
    """Largest, of a convolution and its gradient on the device from the same in float64 on the CPU, in standard deviations."""
    tolerance: float
    """What is usual for the number format."""
    repeatable: bool | None
    """Whether the same steps give the same weights, bit for bit; None on devices where that is not promised."""
    seconds: float
    """All of it."""


class Machine(Frozen):
    """All of it."""

    versions: dict[str, str]
    system: System
    processor: Processor
    memory: Memory
    torch: Torch | None
    """None where it was not asked, or does not answer."""
    torch_problem: str | None
    """Why it does not answer."""
    cards: Cards
    disks: tuple[Disk, ...]
    self_test: SelfTest | None
    """None where it was not wanted, or failed."""
    self_test_problem: str | None
    """Why it failed."""
