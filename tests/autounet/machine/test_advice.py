"""What is said about machines on which one thing is wrong."""

from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

import pytest

from autounet.machine.advice import advise
from autounet.machine.facts import Advice, Machine

RUNS = PurePosixPath("/home/me/autounet_runs")
GB = 10**9


def changed(machine: Machine, part: str, **values: Any) -> Machine:
    return machine.model_copy(update={part: getattr(machine, part).model_copy(update=values)})


def one(machine: Machine) -> Advice:
    (advice,) = advise(machine, RUNS)
    return advice


def test_nothing_to_say(machine: Machine) -> None:
    """A small /dev/shm, as containers have, is nothing to complain about."""
    assert advise(machine, RUNS) == ()


def test_worst_first(machine: Machine) -> None:
    bad = changed(changed(changed(machine, "system", output_encoding="ascii"), "memory", available=GB), "processor", omp_threads="0")
    assert [advice.severity for advice in advise(bad, RUNS)] == ["severe", "warning", "notice"]


@pytest.mark.parametrize(
    ("torch", "cards", "what", "how"),
    [
        ({"version": "2.10.0+cpu", "cuda": None}, {}, "without CUDA", "pytorch.org/get-started"),
        ({"problem": "No CUDA GPUs are available"}, {"visible": ""}, "CUDA_VISIBLE_DEVICES is ''", "unset CUDA_VISIBLE_DEVICES"),
        ({"problem": "No CUDA GPUs are available"}, {"visible": "7"}, "CUDA_VISIBLE_DEVICES is '7'", "0 or 0,1"),
        ({"problem": "The NVIDIA driver on your system is too old (found version 11040)."}, {}, "too old", "update the driver (570.1)"),
        ({"problem": "Found no NVIDIA driver on your system."}, {"driver": None}, "no NVIDIA driver", "--gpus all"),
        ({"problem": "CUDA unknown error"}, {}, "unknown error", "restart"),
    ],
)
def test_a_card_that_torch_does_not_use(machine: Machine, torch: dict[str, Any], cards: dict[str, Any], what: str, how: str) -> None:
    advice = one(changed(changed(machine, "torch", gpus=(), device="cpu", **torch), "cards", **cards))
    assert (advice.severity, advice.about) == ("warning", "GPU")
    assert "NVIDIA A10 is there" in advice.what
    assert what in advice.what
    assert how in advice.advice


def test_no_card_no_complaint(machine: Machine) -> None:
    assert advise(changed(changed(machine, "torch", gpus=(), cuda=None, device="cpu"), "cards", names=(), driver=None), RUNS) == ()


@pytest.mark.parametrize(
    ("values", "severity", "words"),
    [
        ({"known": False, "capability": (6, 1)}, "severe", "compute capability 6.1"),
        ({"total_bytes": 6 * GB, "free_bytes": 6 * GB}, "warning", "6.0 GB of memory"),
        ({"free_bytes": 5 * GB}, "warning", "others use this GPU"),
        ({"free_bytes": 15 * GB}, "notice", "15.0 of 24.0 GB"),
    ],
)
def test_gpus(machine: Machine, values: dict[str, Any], severity: str, words: str) -> None:
    assert machine.torch is not None
    advice = one(changed(machine, "torch", gpus=(machine.torch.gpus[0].model_copy(update=values),)))
    assert advice.severity == severity
    assert words in advice.what


def test_several_gpus(machine: Machine) -> None:
    assert machine.torch is not None
    advice = one(changed(machine, "torch", gpus=machine.torch.gpus * 4))
    assert "torchrun --nproc-per-node 4" in advice.advice


@pytest.mark.parametrize(
    ("version", "cudnn", "told"),
    [
        ("2.9.0+cu128", 91600, True),
        ("2.9.1+cu128", 91300, True),
        ("2.9.1+cu128", 91501, False),
        ("2.8.0", 91002, False),
        ("2.10.0", 91501, False),
    ],
)
def test_releases_with_slow_3d_convolutions(machine: Machine, version: str, cudnn: int, told: bool) -> None:
    """2.9.0 whatever the cuDNN, 2.9.1 until cuDNN 9.15 (pytorch#166122, #166643)."""
    found = advise(changed(machine, "torch", version=version, cudnn=cudnn), RUNS)
    assert [advice.about for advice in found] == (["torch"] if told else [])


@pytest.mark.parametrize(
    ("values", "severity", "words"),
    [
        ({"used": 4, "quota": 3.5}, "notice", "4 of 16 are used: a quota leaves 3.5"),
        ({"used": 2, "allowed": 2}, "notice", "2 of 16 are used: this process may run on no others"),
        ({"used": 2, "asked": 2}, "notice", "the job has --cpus-per-task=2"),
        ({"used": 1, "asked": 1}, "warning", "1 of 16"),
        ({"used": 1, "present": 1}, "warning", "wait for each other"),
        ({"omp_threads": "many"}, "warning", "not a number of threads"),
        ({"omp_threads": "64"}, "warning", "16 cores may be used"),
    ],
)
def test_cores(machine: Machine, values: dict[str, Any], severity: str, words: str) -> None:
    advice = one(changed(machine, "processor", **values))
    assert advice.severity == severity
    assert words in advice.what


def test_few_threads_matter_where_the_cpu_computes(machine: Machine) -> None:
    few = changed(machine, "processor", omp_threads="1")
    assert advise(few, RUNS) == ()
    assert "1 of 16 cores" in one(changed(few, "torch", device="cpu")).what


@pytest.mark.parametrize(
    ("values", "severity", "words"),
    [
        ({"available": 5 * GB}, "warning", "predict with --memory 5"),
        ({"available": GB, "group_limit": 2 * GB}, "severe", "container or job more memory"),
        ({"group_limit": 16 * GB}, "notice", "ask for more"),
        ({"own_limits": {"RLIMIT_AS": 32 * GB}}, "warning", "ulimit -v unlimited"),
        ({"available": 5 * GB, "own_limits": {"RLIMIT_DATA": 6 * GB}}, "warning", "RLIMIT_DATA: see ulimit -a"),
    ],
)
def test_memory(machine: Machine, values: dict[str, Any], severity: str, words: str) -> None:
    advice = one(changed(machine, "memory", **values))
    assert advice.severity == severity
    assert words in advice.advice


@pytest.mark.parametrize(
    ("values", "severity", "words"),
    [
        ({"free_bytes": 10 * GB}, "warning", "10.00 GB are free"),
        ({"free_bytes": GB // 2, "write_mb_s": None}, "severe", "0.50 GB are free"),
        ({"free_bytes": None, "write_mb_s": None, "problem": "no answer within 5 s"}, "severe", "no answer within 5 s"),
        ({"write_mb_s": None, "problem": "Permission denied"}, "severe", "Permission denied"),
        ({"pieces_mb_s": 12.0, "remote": True, "file_system": "nfs4"}, "warning", "at 12 MB/s on a network disk (nfs4)"),
        ({"remote": True, "file_system": "lustre"}, "notice", "lustre"),
        ({"file_system": "tmpfs"}, "warning", "lies in memory"),
    ],
)
def test_disks(machine: Machine, values: dict[str, Any], severity: str, words: str) -> None:
    advice = one(machine.model_copy(update={"disks": (machine.disks[0].model_copy(update=values),)}))
    assert (advice.severity, advice.about) == (severity, "disk")
    assert words in advice.what


def test_a_figure_that_may_be_memorys_is_no_ground_for_a_warning(machine: Machine) -> None:
    disk = machine.disks[0].model_copy(update={"pieces_mb_s": 12.0, "cached": True})
    assert advise(machine.model_copy(update={"disks": (disk,)}), RUNS) == ()


def test_the_rest_of_the_system(machine: Machine) -> None:
    assert "cp1252" in one(changed(machine, "system", output_encoding="cp1252")).what
    assert "64 files" in one(changed(machine, "system", open_files=64)).what
    windows = changed(machine, "system", long_paths=False)
    short, long = PureWindowsPath(r"C:\runs"), PureWindowsPath(rf"C:\Users\{'x' * 140}\runs")
    assert advise(windows, short) == ()
    assert "LongPathsEnabled" in advise(windows, long)[0].advice


@pytest.mark.parametrize(
    ("values", "severity", "words"),
    [
        ({"deviation": 0.5}, "severe", "off by 0.5 standard deviations"),
        ({"deviation": None}, "severe", "not a number"),
        ({"last_loss": 0.6}, "severe", "does not learn: loss from 0.500 to 0.600"),
        ({"last_loss": None}, "severe", "to nan"),
        ({"dice": 0.05}, "severe", "predicts badly"),
        ({"repeatable": False}, "warning", "other weights"),
        ({"batch_seconds": 0.1}, "warning", "100 ms, a step 20 ms"),
    ],
)
def test_the_self_test(machine: Machine, values: dict[str, Any], severity: str, words: str) -> None:
    advice = one(changed(machine, "self_test", **values))
    assert advice.severity == severity
    assert words in advice.what


def test_few_steps_say_nothing_about_the_prediction(machine: Machine) -> None:
    assert advise(changed(machine, "self_test", steps=8, dice=0.05), RUNS) == ()


def test_what_fails_altogether(machine: Machine) -> None:
    failed = machine.model_copy(update={"self_test": None, "self_test_problem": "CUDA error: no kernel image"})
    assert "no kernel image" in one(failed).what
    silent = machine.model_copy(update={"torch": None, "torch_problem": "no answer within 60 s", "self_test": None})
    assert one(silent).severity == "severe"
