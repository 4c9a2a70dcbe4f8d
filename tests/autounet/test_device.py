"""Device and precision from the plain values of Runtime."""

import pytest
import torch

import autounet.device as device_module
from autounet.device import autocast, pick_device, pick_precision
from autounet.errors import UsageError
from autounet.runtime import Runtime

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(("cuda", "mps", "expected"), [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")])
def test_auto_takes_cuda_then_mps_then_cpu(monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, expected: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert pick_device(Runtime()).type == expected


def test_a_named_device(monkeypatch: pytest.MonkeyPatch) -> None:
    assert pick_device(Runtime(device="cpu")) == CPU
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert pick_device(Runtime(device="cuda:1")) == torch.device("cuda:1")


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:2", "mps", "gpu", "cuda:x", ""])
def test_a_device_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UsageError, match=f"--device {name}"):
        pick_device(Runtime(device=name))


@pytest.mark.parametrize(("has_bf16", "expected"), [(True, torch.bfloat16), (False, torch.float32)])
def test_auto_precision_on_the_cpu(monkeypatch: pytest.MonkeyPatch, has_bf16: bool, expected: torch.dtype) -> None:
    monkeypatch.setattr(device_module, "_cpu_has_bf16", lambda: has_bf16)
    assert pick_precision(Runtime(), CPU) == expected


@pytest.mark.parametrize(("has_bf16", "expected"), [(True, torch.bfloat16), (False, torch.float16)])
def test_auto_precision_on_cuda(monkeypatch: pytest.MonkeyPatch, has_bf16: bool, expected: torch.dtype) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has_bf16)
    assert pick_precision(Runtime(), CUDA) == expected


def test_auto_precision_elsewhere_is_float32() -> None:
    assert pick_precision(Runtime(), torch.device("mps")) == torch.float32


def test_named_precision() -> None:
    assert pick_precision(Runtime(precision="fp32"), CUDA) == torch.float32
    assert pick_precision(Runtime(precision="bf16"), CPU) == torch.bfloat16
    assert pick_precision(Runtime(precision="fp16"), CUDA) == torch.float16
    with pytest.raises(UsageError, match="fp16"):
        pick_precision(Runtime(precision="fp16"), CPU)
    with pytest.raises(UsageError, match="double"):
        pick_precision(Runtime(precision="double"), CPU)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_computes_in_the_named_type(dtype: torch.dtype) -> None:
    layer = torch.nn.Linear(4, 4)
    with autocast(CPU, dtype):
        assert layer(torch.zeros(1, 4)).dtype == dtype
