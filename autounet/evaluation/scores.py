"""Scores: the artefact that says how good predictions are, with every case, every class and the means."""

import csv
import io
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import model_validator

from autounet.artefact import Artefact, Frozen, write_text_atomic
from autounet.evaluation.overlap import OverlapScore

METRICS = ("dice", "iou")
"""Names of the scores that are averaged."""


class MeanScore(Frozen):
    """Means of the scores; None where nothing is defined."""

    dice: float | None
    iou: float | None


class Scores(Artefact):
    """Scores of a set of predictions.

    A class's mean is over the cases in which it is defined (see ``overlap``); the overall mean is over the classes that have
    a mean. Nothing is ever NaN: what is undefined everywhere is None.
    """

    KIND: ClassVar[str] = "scores"
    VERSION: ClassVar[int] = 1

    kind: str = KIND
    schema_version: int = VERSION
    mean: MeanScore
    """Mean over the classes of their means."""
    classes: dict[str, MeanScore]
    """Mean over cases, by class name."""
    cases: dict[str, dict[str, OverlapScore]]
    """By case identifier, then class name; every case has every class."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        for case, scores in self.cases.items():
            if list(scores) != list(self.classes):
                raise ValueError(f"case {case} has the classes {', '.join(scores)}, not {', '.join(self.classes)}")
        return self

    @classmethod
    def of(cls, cases: Mapping[str, Mapping[str, OverlapScore]], made_from: Mapping[str, str] | None = None) -> Self:
        """Takes the means.

        Args:
            cases: Case identifier → class name → score; every case with the same classes in the same order.
            made_from: Content hashes of what was scored, by name.
        """
        names = list(next(iter(cases.values()), {}))
        classes = {name: _mean([scores[name] for scores in cases.values() if name in scores]) for name in names}
        return cls(
            made_from=dict(made_from or {}),
            mean=_mean(classes.values()),
            classes=classes,
            cases={case: dict(scores) for case, scores in cases.items()},
        )

    def case_mean(self, case: str) -> MeanScore:
        """Mean over the classes that are defined in one case."""
        return _mean(self.cases[case].values())

    def to_public(self) -> dict[str, Any]:
        """What ``autounet evaluate --json`` prints; undefined scores are None (null).

        ``{"mean": {"dice", "iou"}, "classes": {name: {"dice", "iou"}}, "cases": {case: {name: {"dice", "iou", "tp", …}}}}``
        """
        return self.model_dump(mode="json", include={"mean", "classes", "cases"})

    def to_csv(self, path: Path) -> None:
        """Writes one row per case and class; undefined scores are empty cells. Raises ArtefactError."""
        columns = tuple(OverlapScore.model_fields)
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(("case", "class", *columns))
        for case, scores in self.cases.items():
            table.writerows((case, name, *(getattr(score, column) for column in columns)) for name, score in scores.items())
        write_text_atomic(path, text.getvalue())


def _mean(scores: Iterable[OverlapScore | MeanScore]) -> MeanScore:
    """Mean of each metric over the scores in which it is defined."""
    scores = tuple(scores)
    means: dict[str, float | None] = {}
    for metric in METRICS:
        defined = [value for score in scores if (value := getattr(score, metric)) is not None]
        means[metric] = math.fsum(defined) / len(defined) if defined else None
    return MeanScore(**means)
