"""The short training: it learns on a sound machine, and notices one that computes wrongly."""

from pathlib import Path

import numpy as np
import pytest
import torch

from autounet.machine import self_test as module
from autounet.machine.self_test import ball_in_shell, deviation_of, run_self_test, tolerance_of
from autounet.runtime import Runtime

CPU = torch.device("cpu")


def test_a_sound_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TRAIN_SECONDS", 1.0)
    found = run_self_test(tmp_path, Runtime(device="cpu", precision="fp32", workers=1))
    assert found.steps >= module.FEWEST_STEPS
    assert found.first_loss is not None
    assert found.last_loss is not None
    assert found.last_loss < found.first_loss
    assert found.dice is not None
    assert 0 <= found.dice <= 1
    assert found.repeatable is True
    assert found.deviation is not None
    assert found.deviation < found.tolerance
    assert found.step_seconds > 0
    assert list(tmp_path.iterdir()) == []


def test_the_phantom() -> None:
    """By hand: 4/3 π r³ voxels in the ball of radius 6 and in ball and shell of radius 10; each case is another."""
    image, labels, grid = ball_in_shell(0)
    assert image.shape == (1, *grid.shape_zyx)
    assert (labels == 1).sum() == pytest.approx(4 / 3 * np.pi * 6**3, rel=0.05)
    assert (labels > 0).sum() == pytest.approx(4 / 3 * np.pi * 10**3, rel=0.05)
    assert not np.array_equal(labels, ball_in_shell(1)[1])


@pytest.mark.parametrize(("dtype", "bits"), [(torch.float32, 24), (torch.float16, 11), (torch.bfloat16, 8)])
def test_rounding_is_within_what_is_usual(dtype: torch.dtype, bits: int) -> None:
    """Values of up to four standard deviations are rounded by half of their last bit at most, about; sums in between lose some more."""
    found = deviation_of(CPU, dtype)
    assert 0 < found < tolerance_of(CPU, dtype) / 3
    assert 2.0**-bits < found < 64 * 2.0**-bits


def test_a_device_that_computes_wrongly(monkeypatch: pytest.MonkeyPatch) -> None:
    """One output of the convolution is another one's."""
    sound = torch.nn.functional.conv3d

    def wrong(image: torch.Tensor, weight: torch.Tensor, **settings: int) -> torch.Tensor:
        result = sound(image, weight, **settings)
        if image.dtype == torch.float64:
            return result
        mask = torch.zeros_like(result)
        mask[0, 0, 0, 0, 0] = 1
        return result + mask * (result[0, 1, 1, 1, 1] - result[0, 0, 0, 0, 0])

    monkeypatch.setattr(torch.nn.functional, "conv3d", wrong)
    assert deviation_of(CPU, torch.float32) > tolerance_of(CPU, torch.float32)
