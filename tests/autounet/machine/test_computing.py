"""GPUs and cards, by what NVIDIA's documents and files say."""

import warnings
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from autounet.machine import cards as cards_module
from autounet.machine import computing
from autounet.machine.cards import look_at_cards
from autounet.machine.computing import has_code_for, look_at_torch
from autounet.runtime import Runtime

CU128 = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120"]


@pytest.mark.parametrize(
    ("capability", "architectures", "runs"),
    [
        ((6, 1), CU128, False),
        ((7, 0), CU128, False),
        ((8, 9), CU128, True),  # by sm_86: the same major number
        ((9, 0), CU128, True),
        ((10, 3), CU128, True),
        ((12, 1), CU128, True),
        ((13, 0), CU128, True),  # by compute_120, which the driver translates
        ((8, 6), ["gfx942"], True),
    ],
)
def test_for_which_gpus_a_build_has_code(capability: tuple[int, int], architectures: list[str], runs: bool) -> None:
    assert has_code_for(capability, architectures) is runs


def test_this_build() -> None:
    found = look_at_torch(Runtime(device="cpu", precision="fp32"))
    assert (found.version, found.device, found.precision, found.refused) == (torch.__version__, "cpu", "float32", None)
    assert len(found.gpus) == (torch.cuda.device_count() if torch.cuda.is_available() else 0)


def test_a_device_that_is_not_there() -> None:
    found = look_at_torch(Runtime(device="cuda:99"))
    assert found.device is None
    assert found.refused is not None
    assert "cuda:99" in found.refused


def test_why_cuda_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first line of what torch raises; or what it warned of."""

    def fail() -> None:
        raise RuntimeError("The NVIDIA driver on your system is too old (found version 11040).\nPlease update")

    def warn() -> bool:
        warnings.warn("CUDA initialization: Unexpected error\nmore", stacklevel=1)
        return False

    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "init", fail)
    assert computing._cuda_problem() == "The NVIDIA driver on your system is too old (found version 11040)."
    monkeypatch.setattr(torch.cuda, "is_available", warn)
    monkeypatch.setattr(torch.cuda, "init", lambda: None)
    assert computing._cuda_problem() == "CUDA initialization: Unexpected error"


def test_cards_by_nvidia_smi(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cards_module, "output_of", lambda *command: "NVIDIA A100-SXM4-40GB, 535.129.03\nNVIDIA T4, 535.129.03\n")
    found = look_at_cards({"CUDA_VISIBLE_DEVICES": "-1"}, tmp_path, tmp_path)
    assert (found.names, found.driver, found.visible) == (("NVIDIA A100-SXM4-40GB", "NVIDIA T4"), "535.129.03", "-1")


def test_cards_without_nvidia_smi(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The driver's files; without a driver, the bus: a card that shows (class 03), no sound device of the same vendor."""
    monkeypatch.setattr(cards_module, "output_of", lambda *command: "")
    proc, pci = tmp_path / "proc", tmp_path / "pci"
    assert look_at_cards({}, proc, pci).names == ()
    for number, (vendor, kind) in enumerate([("0x10de", "0x030200"), ("0x10de", "0x040300"), ("0x8086", "0x030000")]):
        (pci / str(number)).mkdir(parents=True)
        (pci / str(number) / "vendor").write_text(f"{vendor}\n")
        (pci / str(number) / "class").write_text(f"{kind}\n")
    found = look_at_cards({}, proc, pci)
    assert (found.names, found.driver) == (("NVIDIA card",), None)
    (proc / "driver" / "nvidia" / "gpus" / "0000:01:00.0").mkdir(parents=True)
    (proc / "driver" / "nvidia" / "gpus" / "0000:01:00.0" / "information").write_text("Model: \t\t NVIDIA GeForce RTX 3090\nIRQ: 1\n")
    version = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.129.03  Thu Oct 19 18:56:32 UTC 2023\nGCC version: 12\n"
    (proc / "driver" / "nvidia" / "version").write_text(version)
    found = look_at_cards({}, proc, pci)
    assert (found.names, found.driver) == (("NVIDIA GeForce RTX 3090",), "535.129.03")


def test_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """An old card under a new build, as torch would tell of it."""
    about = SimpleNamespace(name="NVIDIA GeForce GTX 1080", major=6, minor=1)
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    played = {
        "is_available": lambda: True,
        "init": lambda: None,
        "device_count": lambda: 1,
        "get_device_properties": lambda index: about,
        "mem_get_info": lambda index: (7_000_000_000, 8_000_000_000),
        "is_bf16_supported": lambda including_emulation: False,
        "get_arch_list": lambda: CU128,
        "device": lambda index: nullcontext(),
    }
    for name, answer in played.items():
        monkeypatch.setattr(torch.cuda, name, answer)
    found = look_at_torch(Runtime())
    assert (found.device, found.precision, found.problem) == ("cuda", "float16", None)
    (gpu,) = found.gpus
    assert (gpu.name, gpu.free_bytes, gpu.total_bytes) == (about.name, 7_000_000_000, 8_000_000_000)
    assert (gpu.capability, gpu.bf16, gpu.known) == ((6, 1), False, False)
