"""From facts about a machine to what to do about them, worst first. Pure arithmetic: nothing is looked at here."""

from collections.abc import Iterator
from math import ceil
from pathlib import PurePath

from autounet.machine.disk import IN_MEMORY
from autounet.machine.facts import SEVERITIES, Advice, Cards, Disk, Gpu, Machine, Memory, Processor, Severity, System, Torch
from autounet.machine.releases import known_problems

GB = 1e9

LITTLE_MEMORY, TOO_LITTLE_MEMORY = 8 * GB, 2 * GB
LITTLE_GPU = 8 * GB
"""What the default preset plans for."""
GPU_TAKEN = 0.2
"""Of a GPU's memory by others."""
LITTLE_ROOM, NO_ROOM = 20 * GB, 1 * GB
SLOW_MB_S = 30.0
"""A step of the default preset reads about 20 MB; a GPU makes several steps a second."""
FEW_FILES = 256
WINDOWS_PATH = 260
LONGEST_BELOW = 120
"""Characters of the paths below the folder of all runs, for names of usual length."""

LEARNT_DICE = 0.2
"""The self-test ends far above, unless the machine is so slow that it makes a few steps only."""
ENOUGH_STEPS = 15

GET_TORCH = "install a build for CUDA with the line that https://pytorch.org/get-started/locally gives"


def advise(machine: Machine, runs: PurePath) -> tuple[Advice, ...]:
    """Everything worth saying. ``runs``: the folder of all runs, for the length of paths."""
    found = [
        *_computing(machine),
        *_cores(machine.processor, machine.torch),
        *_memory(machine.memory, machine.torch),
        *(advice for disk in machine.disks for advice in _disk(disk)),
        *_system(machine.system, runs),
        *_self_test(machine),
    ]
    return tuple(sorted(found, key=lambda advice: SEVERITIES.index(advice.severity)))


def _computing(machine: Machine) -> Iterator[Advice]:
    torch, cards = machine.torch, machine.cards
    if machine.torch_problem is not None:
        what = f"torch was asked what it can compute on: {machine.torch_problem}"
        yield Advice(severity="severe", about="torch", what=what, advice="see whether nvidia-smi answers; else install torch again")
    if torch is None:
        return
    yield from known_problems(torch)
    if torch.refused is not None:
        yield Advice(severity="severe", about="device", what=torch.refused, advice="use --device auto")
    for number, gpu in enumerate(torch.gpus):
        yield from _gpu(gpu, f"GPU {number}" if len(torch.gpus) > 1 else "GPU", torch)
    if len(torch.gpus) > 1:
        count = len(torch.gpus)
        how = f"give each a fold of its own (CUDA_VISIBLE_DEVICES=0 … -f 0), or one fold all: torchrun --nproc-per-node {count}"
        yield Advice(severity="notice", about="GPU", what=f"{count} GPUs; a command uses one", advice=how)
    if not torch.gpus and cards.names:
        yield _without_gpu(torch, cards)


def _without_gpu(torch: Torch, cards: Cards) -> Advice:
    """Why a card that is there is not used."""
    what = f"{', '.join(dict.fromkeys(cards.names))} is there, and torch does not use it: "
    if torch.cuda is None:
        return Advice(severity="warning", about="GPU", what=f"{what}this build of torch is without CUDA", advice=GET_TORCH)
    if cards.visible is not None and (cards.visible.strip() in ("", "-1") or torch.problem is None or "No CUDA GPUs" in torch.problem):
        what += f"CUDA_VISIBLE_DEVICES is {cards.visible!r}"
        return Advice(severity="warning", about="GPU", what=what, advice="unset CUDA_VISIBLE_DEVICES, or name cards in it: 0 or 0,1")
    what += torch.problem or "CUDA does not start"
    if torch.problem is not None and "too old" in torch.problem:
        driver = f"update the driver ({cards.driver}), or " if cards.driver else "update the driver, or "
        return Advice(severity="warning", about="GPU", what=what, advice=f"{driver}{GET_TORCH.replace('for CUDA', 'for an older CUDA')}")
    if cards.driver is None:
        how = "load the driver (nvidia-smi must list the card); start a container with --gpus all"
        return Advice(severity="warning", about="GPU", what=what, advice=how)
    return Advice(
        severity="warning", about="GPU", what=what, advice="restart the machine if nvidia-smi fails, too; else install torch again"
    )


def _gpu(gpu: Gpu, name: str, torch: Torch) -> Iterator[Advice]:
    if not gpu.known:
        number = ".".join(map(str, gpu.capability))
        what = f"{gpu.name} has compute capability {number}, for which torch {torch.version} has no code"
        yield Advice(severity="severe", about=name, what=what, advice="install a build of torch that has, or use --device cpu")
    if gpu.total_bytes < LITTLE_GPU:
        what = f"{gpu.total_bytes / GB:.1f} GB of memory, less than the 8 GB that are planned for"
        yield Advice(severity="warning", about=name, what=what, advice=f"plan for it: --gpu-memory {max(1, int(gpu.total_bytes / GB) - 1)}")
    elif gpu.free_bytes < (1 - GPU_TAKEN) * gpu.total_bytes:
        what = f"{gpu.free_bytes / GB:.1f} of {gpu.total_bytes / GB:.1f} GB of memory are free: others use this GPU"
        severity: Severity = "warning" if gpu.free_bytes < LITTLE_GPU else "notice"
        yield Advice(severity=severity, about=name, what=what, advice="look who does with nvidia-smi, or choose another: --device cuda:1")


def _cores(processor: Processor, torch: Torch | None) -> Iterator[Advice]:
    if processor.used < processor.present:
        why, remedy = "this process may run on no others", "start it without taskset, or ask the batch system for more"
        if processor.quota is not None and ceil(processor.quota) <= processor.used:
            why, remedy = f"a quota leaves {processor.quota:g}", "start the container with more --cpus, or ask the batch system for more"
        if processor.asked == processor.used:
            why, remedy = f"the job has --cpus-per-task={processor.asked}", "ask Slurm for more with --cpus-per-task, if there are any"
        severity: Severity = "warning" if processor.used < 2 else "notice"
        yield Advice(severity=severity, about="cores", what=f"{processor.used} of {processor.present} are used: {why}", advice=remedy)
    elif processor.present == 1:
        yield Advice(
            severity="warning", about="cores", what="one: reading and computing wait for each other", advice="use a larger machine"
        )
    if processor.omp_threads is not None:
        first = processor.omp_threads.split(",")[0].strip()
        threads = int(first) if first.isdecimal() else 0
        set_to = f"OMP_NUM_THREADS is {processor.omp_threads!r}"
        if threads < 1:
            yield Advice(severity="warning", about="threads", what=f"{set_to}: not a number of threads", advice="unset it")
        elif threads > processor.used:
            what = f"{set_to}, and {processor.used} cores may be used: threads wait for each other"
            yield Advice(severity="warning", about="threads", what=what, advice="unset it: autounet takes the cores there are")
        elif threads < processor.used and torch is not None and torch.device == "cpu":
            what = f"{set_to}: networks are computed with {threads} of {processor.used} cores"
            yield Advice(severity="warning", about="threads", what=what, advice="unset it, unless several commands share the machine")
    if torch is not None and torch.device == "cpu" and processor.features and "avx2" not in processor.features:
        yield Advice(severity="notice", about="CPU", what="without AVX2 networks are slow", advice="train on another machine")


def _memory(memory: Memory, torch: Torch | None) -> Iterator[Advice]:
    limit = memory.group_limit
    if memory.available < LITTLE_MEMORY:
        least = memory.available < TOO_LITTLE_MEMORY
        limited = limit is not None and (memory.total is None or limit < memory.total)
        more = "give the container or job more memory" if limited else "close other programs"
        if memory.own_limits:
            more = f"raise the limit that was set for it ({', '.join(sorted(memory.own_limits))}: see ulimit -a)"
        how = f"{more}; plan with --preset small, predict with --memory {max(1, int(memory.available / GB))}"
        what = f"{memory.available / GB:.1f} GB are left to this process"
        yield Advice(severity="severe" if least else "warning", about="memory", what=what, advice=how)
    elif limit is not None and memory.total is not None and limit < memory.total / 2:
        what = f"limited to {limit / GB:.1f} of the machine's {memory.total / GB:.1f} GB by its control group"
        yield Advice(severity="notice", about="memory", what=what, advice="ask for more if a command says that memory ran out")
    if "RLIMIT_AS" in memory.own_limits and torch is not None and (torch.gpus or torch.device not in (None, "cpu")):
        what = f"addresses are limited to {memory.own_limits['RLIMIT_AS'] / GB:.1f} GB (ulimit -v); CUDA wants more than it uses"
        yield Advice(severity="warning", about="memory", what=what, advice="lift that: ulimit -v unlimited")


def _disk(disk: Disk) -> Iterator[Advice]:
    where, writes = f"{disk.purpose} {disk.path}", disk.purpose == "run folder"
    if disk.free_bytes is None or (disk.problem is not None and disk.write_mb_s is None and disk.free_bytes >= LITTLE_ROOM):
        what = f"{where}: {disk.problem}"
        yield Advice(
            severity="severe", about="disk", what=what, advice="choose a folder elsewhere with " + ("--runs" if writes else "--data")
        )
        return
    if writes and disk.free_bytes < LITTLE_ROOM:
        none = disk.free_bytes < NO_ROOM
        what = f"{where}: {disk.free_bytes / GB:.2f} GB are free; prepared cases may need more"
        yield Advice(
            severity="severe" if none else "warning", about="disk", what=what, advice="make room, or choose another disk with --runs"
        )
    if writes and disk.file_system in IN_MEMORY:
        what = f"{where}: lies in memory ({disk.file_system}): it takes from what training needs, and is gone after a restart"
        yield Advice(severity="warning", about="disk", what=what, advice="choose a folder on a disk with --runs")
    lies = f" on a network disk ({disk.file_system})" if disk.remote else ""
    if disk.pieces_mb_s is not None and disk.pieces_mb_s < SLOW_MB_S and not disk.cached:
        what = f"{where}: pieces are read at {disk.pieces_mb_s:.0f} MB/s{lies}: loading may wait, unless all cases fit into memory"
        yield Advice(severity="warning", about="disk", what=what, advice="put it on a local disk" + (", with --runs" if writes else ""))
    elif disk.remote and writes:
        what = f"{where}: lies{lies}"
        yield Advice(severity="notice", about="disk", what=what, advice="if training waits for data, use a local disk for --runs")


def _system(system: System, runs: PurePath) -> Iterator[Advice]:
    for encoding, of in ((system.output_encoding, "the output"), (system.file_encoding, "file names")):
        if encoding.lower().replace("-", "") not in ("utf8", "cp65001"):
            what = f"the encoding of {of} is {encoding}, not UTF-8"
            yield Advice(severity="notice", about="text", what=what, advice="set LANG=C.UTF-8 (Windows: PYTHONUTF8=1)")
    if system.open_files is not None and system.open_files < FEW_FILES:
        what = f"{system.open_files} files may be open at once"
        yield Advice(severity="warning", about="files", what=what, advice="raise that: ulimit -n 1024")
    if system.long_paths is False and len(str(runs)) + LONGEST_BELOW > WINDOWS_PATH:
        what = f"Windows refuses paths of more than {WINDOWS_PATH} characters, and {runs} has {len(str(runs))} already"
        how = "choose a shorter folder with --runs, or set LongPathsEnabled in the registry"
        yield Advice(severity="warning", about="files", what=what, advice=how)


def _self_test(machine: Machine) -> Iterator[Advice]:
    test = machine.self_test
    if machine.self_test_problem is not None:
        what = f"training a tiny network fails: {machine.self_test_problem}"
        yield Advice(severity="severe", about="self-test", what=what, advice="try --device cpu; else report it with what --debug prints")
    if test is None:
        return
    others = "try --precision fp32, then --device cpu; update the driver and torch"
    if test.deviation is None or test.deviation > test.tolerance:
        off = "not a number" if test.deviation is None else f"off by {test.deviation:.2g} standard deviations ({test.tolerance:g} is usual)"
        yield Advice(severity="severe", about="self-test", what=f"a convolution on this device is {off}", advice=others)
    if test.first_loss is None or test.last_loss is None or test.last_loss >= test.first_loss:
        how = f"from {_number(test.first_loss)} to {_number(test.last_loss)} in {test.steps} steps"
        yield Advice(severity="severe", about="self-test", what=f"a tiny network does not learn: loss {how}", advice=others)
    elif test.steps >= ENOUGH_STEPS and (test.dice is None or test.dice < LEARNT_DICE):
        what = f"a tiny network learns, and predicts badly: Dice {_number(test.dice)}"
        yield Advice(severity="severe", about="self-test", what=what, advice=others)
    if test.repeatable is False:
        what = "the same steps give other weights on this CPU: results cannot be repeated bit for bit"
        yield Advice(severity="warning", about="self-test", what=what, advice="report it with the table above")
    if test.batch_seconds > test.step_seconds:
        what = (
            f"reading a batch takes {1000 * test.batch_seconds:.0f} ms, a step {1000 * test.step_seconds:.0f} ms: the device waits for data"
        )
        yield Advice(severity="warning", about="loading", what=what, advice="give it more cores, or a faster disk for the run folder")


def _number(value: float | None) -> str:
    return "nan" if value is None else f"{value:.3f}"
