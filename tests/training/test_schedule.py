"""Learning rate and length, by hand: nnU-Net's decay for epochs, the same curve over time for a budget."""

import pytest

from autounet.training.schedule import Length, Position, Schedule


def test_decay_over_epochs() -> None:
    schedule = Schedule(Length(epochs=1000))
    assert schedule.learning_rate(Position(0, 0.0, 0.0)) == 0.01
    assert schedule.learning_rate(Position(500, 0.0, 0.0)) == pytest.approx(0.01 * 0.5**0.9)
    # nnU-Net's PolyLRScheduler at its last epoch, 999: 0.01 · 0.001^0.9 = 0.01 · 10^-2.7
    assert schedule.learning_rate(Position(999, 0.0, 0.0)) == pytest.approx(10**-4.7)
    assert [schedule.is_over(Position(epoch, 0.0, 0.0)) for epoch in (0, 999, 1000)] == [False, False, True]


def test_decay_over_a_budget_follows_time_less_the_reserve() -> None:
    schedule = Schedule(Length(budget_seconds=120.0), reserved_seconds=20.0)
    assert schedule.learning_rate(Position(0, 0.0, 0.0)) == 0.01
    assert schedule.learning_rate(Position(7, 75.0, 10.0)) == pytest.approx(0.01 * 0.25**0.9)
    assert schedule.seconds_left(Position(7, 75.0, 10.0)) == 25.0
    # Beyond the budget the rate is zero, not an error.
    assert schedule.learning_rate(Position(10, 130.0, 10.0)) == 0.0
    assert schedule.seconds_left(Position(10, 130.0, 10.0)) == 0.0


def test_a_budget_ends_when_another_epoch_does_not_fit_but_never_before_the_first() -> None:
    schedule = Schedule(Length(budget_seconds=100.0))
    assert not schedule.is_over(Position(0, 0.0, 0.0))
    assert not schedule.is_over(Position(9, 90.0, 10.0))
    assert schedule.is_over(Position(9, 91.0, 10.0))
    assert not Schedule(Length(budget_seconds=1.0), reserved_seconds=5.0).is_over(Position(0, 0.0, 0.0))


def test_time_left_of_epochs_follows_the_latest_one() -> None:
    assert Schedule(Length(epochs=10)).seconds_left(Position(4, 100.0, 30.0)) == 180.0


@pytest.mark.parametrize(
    ("budget", "step", "steps_per_epoch"),
    [
        (1000.0, 0.1, 200),  # 10 000 steps in 50 epochs
        (5000.0, 0.1, 250),  # never more than asked for
        (50.0, 0.1, 20),  # 500 steps: 25 epochs of 20
        (6.0, 0.1, 12),  # 60 steps: 3 epochs of 20 would be too few, so 5 of 12
        (0.1, 1.0, 1),  # no time at all: one step per epoch
    ],
)
def test_steps_per_epoch_under_a_budget(budget: float, step: float, steps_per_epoch: int) -> None:
    assert Schedule(Length(budget_seconds=budget)).iterations_for(step) == steps_per_epoch


def test_steps_per_epoch_without_a_budget_are_those_asked_for() -> None:
    assert Schedule(Length(iterations=33)).iterations_for(0.1) == 33
