"""Scores: the artefact that says how good predictions are, with every case, every class and the means."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from autounet.artefact import Artefact, Frozen
from autounet.evaluation.case import ClassScore
from autounet.evaluation.overlap import OverlapScore

METRICS = ("dice", "iou")
"""The averaged scores of overlap that every Scores has: what trackers and short tables show."""

ALL_METRICS = (*METRICS, "precision", "recall", "hd95_mm", "assd_mm", "nsd", "lesion_f1", "lesion_dice")
"""All that are averaged. Of distances less is better, of all others more."""

VolumeUnit = Literal["mm3", "mm2"]


class MeanScore(Frozen):
    """Means of the scores; None where nothing is defined or measured."""

    dice: float | None
    iou: float | None
    precision: float | None = None
    recall: float | None = None
    hd95_mm: float | None = None
    assd_mm: float | None = None
    nsd: float | None = None
    lesion_f1: float | None = None
    lesion_dice: float | None = None
    over: dict[str, int] = Field(default_factory=dict)
    """How many values each mean is of, by metric: of a class the cases in which it is defined, of all the classes that have a mean."""


class ClassMean(MeanScore):
    """Means of one class over cases."""

    missed: int = 0
    """Cases with the class in the truth and not in the prediction: their distances, undefined, are in no mean."""
    invented: int = 0
    """Cases with the class in the prediction and not in the truth: the same."""


class Scores(Artefact):
    """Scores of a set of predictions.

    A class's mean is over the cases in which it is defined (see ``case``); the overall mean is over the classes that have
    a mean. Nothing is ever NaN: what is undefined everywhere is None.
    """

    KIND: ClassVar[str] = "scores"
    VERSION: ClassVar[int] = 2
    REMEDY: ClassVar[str] = "run `autounet train` for this fold again, which scores its predictions anew, or `autounet evaluate`"

    kind: str = KIND
    schema_version: int = VERSION
    tolerance_mm: float | None = None
    """Of the normalised surface Dice; None when surfaces were not measured."""
    volume_unit: VolumeUnit | None = None
    """Of the volumes: mm² for planar images; None when volumes were not measured, or when some of the images are planar."""
    mean: MeanScore
    """Mean over the classes of their means."""
    classes: dict[str, ClassMean]
    """Mean over cases, by class name."""
    cases: dict[str, dict[str, ClassScore]]
    """By case identifier, then class name; every case has every class."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        for case, scores in self.cases.items():
            if list(scores) != list(self.classes):
                raise ValueError(f"case {case} has the classes {', '.join(scores)}, not {', '.join(self.classes)}")
        return self

    @classmethod
    def of(
        cls,
        cases: Mapping[str, Mapping[str, OverlapScore]],
        made_from: Mapping[str, str] | None = None,
        tolerance_mm: float | None = None,
        volume_unit: VolumeUnit | None = None,
    ) -> Self:
        """Takes the means.

        Args:
            cases: Case identifier → class name → score; every case with the same classes in the same order. Scores of overlap alone
                are taken too: the rest was not measured then.
            made_from: Content hashes of what was scored, by name.
            tolerance_mm: Of the normalised surface Dice.
            volume_unit: Of the volumes.
        """
        full = {case: {name: _full(score) for name, score in scores.items()} for case, scores in cases.items()}
        names = list(next(iter(full.values()), {}))
        classes = {name: _class_mean([scores[name] for scores in full.values() if name in scores]) for name in names}
        return cls(
            made_from=dict(made_from or {}),
            tolerance_mm=tolerance_mm,
            volume_unit=volume_unit,
            mean=MeanScore(**_means(classes.values())),
            classes=classes,
            cases=full,
        )

    def case_mean(self, case: str) -> MeanScore:
        """Mean over the classes that are defined in one case."""
        return MeanScore(**_means(self.cases[case].values()))

    def to_public(self) -> dict[str, Any]:
        """What ``autounet evaluate --json`` prints; undefined scores are None (null).

        ``{"mean": {"dice", …, "over"}, "classes": {name: {"dice", …}}, "cases": {case: {name: {"dice", …, "tp", …}}}, "tolerance_mm",
        "volume_unit"}``
        """
        return self.model_dump(mode="json", include={"mean", "classes", "cases"}) | {
            "tolerance_mm": self.tolerance_mm,
            "volume_unit": self.volume_unit,
        }


def _full(score: OverlapScore) -> ClassScore:
    return score if isinstance(score, ClassScore) else ClassScore(**score.model_dump())


def _class_mean(scores: list[ClassScore]) -> ClassMean:
    missed = sum(score.tp + score.fn > 0 and score.tp + score.fp == 0 for score in scores)
    invented = sum(score.tp + score.fp > 0 and score.tp + score.fn == 0 for score in scores)
    return ClassMean(**_means(scores), missed=missed, invented=invented)


def _means(scores: Iterable[ClassScore | MeanScore]) -> dict[str, Any]:
    """Mean of each metric over the scores in which it is defined, and their numbers."""
    scores = tuple(scores)
    means: dict[str, Any] = {"over": {}}
    for metric in ALL_METRICS:
        defined = [value for score in scores if (value := getattr(score, metric)) is not None]
        means[metric] = math.fsum(defined) / len(defined) if defined else None
        means["over"][metric] = len(defined)
    return means
