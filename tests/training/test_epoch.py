"""When steps that are not finite lower the learning rate, and when they end the training."""

import pytest
import torch

from autounet.errors import AutounetError
from autounet.training.epoch import EpochSoFar, lowered_rate

CPU = torch.device("cpu")


def _epoch() -> EpochSoFar:
    so_far = EpochSoFar(seconds=3.0, waited=0.5)
    for loss, left_out, cases in (
        (1.0, False, ("a", "b")),
        (float("nan"), True, ("c", "a")),
        (2.0, False, ("b", "b")),
        (5.0, True, ("c", "c")),
    ):
        so_far.add(torch.tensor(loss), torch.tensor(left_out), cases)
    return so_far


def test_steps_left_out_are_not_in_the_mean_and_their_cases_are_counted_once_a_step() -> None:
    assert _epoch().mean_loss() == 1.5
    assert _epoch().suspects() == (2, ["c", "a"])


def test_it_is_put_down_and_taken_up_whole() -> None:
    again = EpochSoFar.of(_epoch().state(), CPU)
    assert again.state()["losses"].equal(_epoch().state()["losses"]) or bool(again.losses[1].isnan())
    assert (again.steps, again.seconds, again.waited, again.cases) == (4, 3.0, 0.5, _epoch().cases)
    assert again.suspects() == _epoch().suspects()
    assert EpochSoFar.of(EpochSoFar().state(), CPU).steps == 0


@pytest.mark.parametrize(
    ("factor", "left_out", "steps", "expected"), [(1.0, 0, 10, 1.0), (1.0, 1, 10, 1.0), (1.0, 2, 10, 0.5), (0.25, 2, 10, 0.125)]
)
def test_a_tenth_of_the_steps_is_borne_more_halves_the_rate(factor: float, left_out: int, steps: int, expected: float) -> None:
    assert lowered_rate(factor, left_out, steps, 0, []) == expected


@pytest.mark.parametrize(("factor", "left_out"), [(1.0, 10), (0.125, 2)])
def test_it_ends_where_nothing_was_learnt_or_the_rate_is_low_already(factor: float, left_out: int) -> None:
    with pytest.raises(AutounetError, match=r"epoch 4: .* in \d+ of 10 steps.*batches with a, b"):
        lowered_rate(factor, left_out, 10, 3, ["a", "b"])
