"""Selection: the artefact that says which configuration or ensemble is the model, and what is done to its label maps."""

from collections.abc import Container
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from autounet.artefact import Artefact, Frozen
from autounet.postprocessing import Step

JOIN = "+"
"""Between the names of configurations whose probabilities are averaged."""


def configurations_of(name: str, known: Container[str]) -> tuple[str, ...]:
    """The configurations that a candidate's name joins, without repetition; a known name is one, whatever is in it."""
    return (name,) if name in known else tuple(dict.fromkeys(part.strip() for part in name.split(JOIN)))


class Interval(Frozen):
    """A number with the limits that it lies between in 95 % of the samples of cases (percentile bootstrap)."""

    value: float
    low: float
    high: float


class Candidate(Frozen):
    """A configuration, or an ensemble of several, scored on the held-out cases of all folds together."""

    name: str
    """Such as ``3d_fullres`` or ``2d+3d_fullres``."""
    configurations: tuple[str, ...]
    """Whose probabilities are averaged."""
    dice: Interval | None
    """Mean over classes of the mean over cases; None where no class is defined in any case."""
    classes: dict[str, float | None]
    """Mean Dice over cases, by class."""
    cost: float
    """Billions of multiplications for an image of typical size: what a prediction costs."""


class Comparison(Frozen):
    """Two candidates on the same cases."""

    first: str
    second: str
    difference: Interval
    """Of the mean Dice, first minus second; the same samples of cases for both."""
    p_value: float | None
    """Of Wilcoxon's signed-rank test on the cases' mean Dice, two-sided; None where no case has a mean in both."""
    cases: int
    """With a mean in both."""


class Decision(Frozen):
    """A step of postprocessing that was tried."""

    step: Step
    kept: bool
    mean_before: float | None
    """Mean Dice without the step, with all that were kept before it."""
    mean_after: float | None
    worse: tuple[str, ...] = ()
    """Classes whose Dice it lowers."""


class Selection(Artefact):
    """What ``autounet select`` found."""

    KIND: ClassVar[str] = "selection"
    VERSION: ClassVar[int] = 1
    REMEDY: ClassVar[str] = "run `autounet select --overwrite`, which makes it anew"

    kind: str = KIND
    schema_version: int = VERSION
    rule: str
    """``best``: the highest mean Dice, as nnU-Net chooses. ``cheapest``: the cheapest that is not significantly worse than that."""
    folds: tuple[str, ...]
    """Whose held-out cases were scored: those that all candidates have."""
    cases: int
    missing: tuple[str, ...]
    """What is not trained or was left out, in words; empty where nothing is missing."""
    candidates: Annotated[tuple[Candidate, ...], Field(min_length=1)]
    """The best first."""
    chosen: str
    """Name of the candidate that predicts."""
    reason: str
    comparisons: tuple[Comparison, ...]
    """The best candidate with each of the others."""
    postprocessing: tuple[Step, ...]
    """Done to the chosen candidate's label maps, in this order."""
    decisions: tuple[Decision, ...]
    """Every step that was tried, in order."""
    dice_before: float | None
    """Mean Dice of the chosen candidate without postprocessing."""
    dice_after: float | None
    """With it. Chosen on the same cases: a little hopeful."""
    confidence_rank_correlation: float | None = None
    """Spearman's correlation over cases of the expected Dice (from the probabilities alone) with the true mean Dice."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.chosen not in {entry.name for entry in self.candidates}:
            raise ValueError(f"'{self.chosen}' is chosen, which is no candidate")
        return self

    def candidate(self, name: str) -> Candidate:
        """The candidate of a name. Raises KeyError."""
        for entry in self.candidates:
            if entry.name == name:
                return entry
        raise KeyError(name)
