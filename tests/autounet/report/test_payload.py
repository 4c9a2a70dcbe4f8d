"""The numbers behind charts and slices."""

from types import SimpleNamespace

import pytest

from autounet.labels import LabelSpec, StructureClass
from autounet.report.data_section import figure, short
from autounet.report.payload import MOST_POINTS, index_entries, training_payload
from autounet.training.history import EpochRecord

COLOURS = {"a": "#111111", "b": "#222222", "c": "#333333"}


def epoch(number: int, loss: float, dice: float | None) -> EpochRecord:
    return EpochRecord(
        epoch=number, learning_rate=0.01, train_loss=loss, validation_loss=None, dice={}, mean_dice=dice, ema_dice=dice, seconds=1.0,
        trained_seconds=1.0, iterations=1, data_wait_share=0.0,
    )  # fmt: skip


def payload(*history: EpochRecord) -> dict:
    fold = SimpleNamespace(configuration="2d", name="0", history=history)
    return training_payload(SimpleNamespace(folds=(fold,)))[0]  # type: ignore[arg-type]


def test_indices_follow_ascending_values_whatever_the_order_of_the_classes() -> None:
    labels = LabelSpec(classes=(StructureClass(name="a", values=(7,)), StructureClass(name="b", values=(2,))))
    assert index_entries(labels, COLOURS) == [{"name": "b", "colour": "#222222"}, {"name": "a", "colour": "#111111"}]


def test_an_index_of_overlapping_regions_is_the_region_that_is_painted_there() -> None:
    """As in BraTS: the whole tumour 1, 2, 3 is written as 2, the core 2, 3 as 1, the enhancing part 3 as 3."""
    classes = (StructureClass(name="a", values=(1, 2, 3)), StructureClass(name="b", values=(1, 3)), StructureClass(name="c", values=(3,)))
    labels = LabelSpec(classes=classes, overlapping=True, paint_order=(2, 1, 3))
    assert [entry["name"] for entry in index_entries(labels, COLOURS)] == ["b", "a", "c"]


def test_a_value_that_no_region_is_painted_with_has_its_number() -> None:
    classes = (StructureClass(name="a", values=(1, 2)), StructureClass(name="b", values=(2,)))
    labels = LabelSpec(classes=classes, overlapping=True, paint_order=(2, 2))
    assert index_entries(labels, COLOURS)[0] == {"name": "value 1", "colour": "#9AA5B1"}


def test_short_curves_are_kept_and_gaps_stay() -> None:
    found = payload(epoch(0, 0.5, None), epoch(1, 0.25, 0.75))
    assert found["epochs"] == [1, 2]
    assert (found["train_loss"], found["validation_loss"], found["ema_dice"]) == ([0.5, 0.25], [None, None], [None, 0.75])


def test_long_curves_are_means_over_neighbours() -> None:
    """1000 epochs in groups of three: the first is epochs 1 to 3 with losses 0, 1, 2; the last is epoch 1000 alone."""
    found = payload(*(epoch(number, float(number), 0.5) for number in range(1000)))
    assert len(found["epochs"]) == 334 <= MOST_POINTS
    assert (found["epochs"][0], found["train_loss"][0]) == (3, 1.0)
    assert (found["epochs"][-1], found["train_loss"][-1]) == (1000, 999.0)


@pytest.mark.parametrize(("value", "shown"), [(36.0, "36"), (1.5625, "1.562"), (22356.4, "22,356"), (0.00012, "0.00012"), (-0.5, "-0.5")])
def test_figures(value: float, shown: str) -> None:
    assert figure(value) == shown


def test_five_digits_are_enough() -> None:
    assert short(0.123456789) == 0.12346
