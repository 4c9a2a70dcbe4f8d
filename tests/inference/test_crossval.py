"""Which cases a fold is asked about in the cross-validation."""

from pathlib import Path
from typing import Any, cast

from autounet.inference.crossval import CrossValidation
from autounet.layout import RunLayout
from autounet.splits import Split, Splits


def test_a_case_that_several_folds_hold_out_belongs_to_the_first_of_them() -> None:
    """As in repeated cross-validation: each case is scored once, by a fold that has not seen it."""
    folds = (
        Split(train=("a", "b"), validation=("c", "d")),
        Split(train=("c", "a"), validation=("b", "d")),
        Split(train=("b", "d"), validation=("a", "c")),
    )
    splits = Splits(made_from={}, folds=folds)
    nothing = cast(Any, None)
    whole = CrossValidation(nothing, nothing, RunLayout(Path()), splits, ("0", "1", "2"))
    assert [whole.held_out(fold) for fold in ("0", "1", "2")] == [("c", "d"), ("b",), ("a",)]
    later = CrossValidation(nothing, nothing, RunLayout(Path()), splits, ("1", "2"))
    assert [later.held_out(fold) for fold in ("1", "2")] == [("b", "d"), ("a", "c")]
