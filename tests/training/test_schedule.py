"""Learning rate and length, by hand: nnU-Net's decay for epochs, the same curve over time for a budget."""

import pytest

from autounet.preset import OptimizerSpec
from autounet.training.schedule import Length, Position, Schedule, plateau


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


def test_a_rate_that_changes_by_the_step_rises_and_falls_within_epochs() -> None:
    """A rise over the first fifth of 10 epochs, then nnU-Net's decay over what is left."""
    schedule = Schedule(Length(epochs=10), optimizer=OptimizerSpec(learning_rate=1.0, warm_up=0.2, every_step=True))
    assert schedule.learning_rate(Position(0, 0.0, 0.0)) == 0.0
    assert schedule.learning_rate(Position(0, 0.0, 0.0), 0.5) == pytest.approx(0.25)
    assert schedule.learning_rate(Position(2, 0.0, 0.0)) == 1.0
    assert schedule.learning_rate(Position(6, 0.0, 0.0)) == pytest.approx(0.5**0.9)
    by_epochs = Schedule(Length(epochs=10))
    assert by_epochs.learning_rate(Position(3, 0.0, 0.0), 0.9) == by_epochs.learning_rate(Position(3, 0.0, 0.0))


def test_within_the_first_epoch_of_a_budget_time_is_what_was_estimated() -> None:
    schedule = Schedule(Length(budget_seconds=100.0), optimizer=OptimizerSpec(every_step=True))
    assert schedule.progress(Position(0, 0.0, 20.0), 0.5) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("dice", "patience", "epoch"),
    [
        ([0.1, 0.2, 0.3], 2, None),
        ([0.1, 0.2, 0.2, 0.2], 2, 4),
        ([0.1, 0.2, 0.2005, 0.2009], 2, 4),  # by less than 0.001 is no rise
        ([0.1, 0.2, 0.2, 0.3, 0.3], 2, None),
        ([None] * 9, 2, None),  # nothing to be better than
        ([None, None, None, 0.1, 0.1], 2, None),
        ([0.1, None, None], 2, 3),
    ],
)
def test_a_plateau_is_seen_after_some_epochs_without_a_rise(dice: list[float | None], patience: int, epoch: int | None) -> None:
    assert plateau(dice, patience) == epoch


def test_after_a_plateau_the_rate_falls_to_zero_within_a_tenth_of_the_epochs() -> None:
    schedule = Schedule(Length(epochs=1000), optimizer=OptimizerSpec(learning_rate=1.0))
    at_plateau = schedule.learning_rate(Position(200, 0.0, 0.0))
    schedule.cool_down(Position(200, 0.0, 0.0))
    rates = [schedule.learning_rate(Position(epoch, 0.0, 0.0)) for epoch in (199, 200, 210, 220)]
    assert rates == pytest.approx([(1 - 0.199) ** 0.9, at_plateau, 0.4**0.9, 0.0])  # 0.2 was behind; half of the rest at 210
    assert [schedule.is_over(Position(epoch, 0.0, 0.0)) for epoch in (219, 220)] == [False, True]
    assert schedule.seconds_left(Position(210, 0.0, 3.0)) == 30.0


def test_a_rise_by_epochs_would_train_the_first_one_at_nothing() -> None:
    with pytest.raises(ValueError, match="'warm_up' needs 'every_step'"):
        OptimizerSpec(warm_up=0.1)
