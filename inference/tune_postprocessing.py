"""Which postprocessing makes the held-out cases better.

Source of the first two kinds: nnunetv2 2.8.1, ``postprocessing/remove_connected_components.py``, determine_postprocessing. A step must
raise what it is for, the mean Dice for all foreground and the class's own for one class, and lower no class. (nnU-Net does not look at
the other classes for a single one, which matters for overlapping regions alone.)
"""

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import blosc2
import numpy as np
from scipy import ndimage

from autounet.errors import AutounetError
from autounet.evaluation.overlap import OverlapScore, overlap
from autounet.evaluation.scores import Scores
from autounet.geometry import Grid
from autounet.images import read_labels
from autounet.inference.postprocess import apply_postprocessing
from autounet.labels import IntArray, LabelSpec
from autounet.parallel import map_ordered
from autounet.postprocessing import FillHoles, KeepLargest, RemoveSmall, Step
from autounet.runtime import Runtime
from autounet.selection import Decision

SMALL_SHARES = (0.001, 0.003, 0.01, 0.03, 0.1)
"""Smallest sizes of components that are tried, as shares of the median true volume of a class."""


@dataclass(frozen=True, slots=True)
class Tuned:
    """What was found."""

    steps: tuple[Step, ...]
    decisions: tuple[Decision, ...]
    before: Scores
    after: Scores


class HeldOut:
    """Label maps of one case, prediction and truth, cropped to what is not background in either and packed in memory."""

    def __init__(self, prediction_zyx: IntArray, truth_zyx: IntArray, grid: Grid, annotated: Sequence[str] | None) -> None:
        box = ndimage.find_objects(((prediction_zyx != 0) | (truth_zyx != 0)).view(np.uint8))
        inside = box[0] if box and box[0] is not None else (slice(0, 1),) * 3
        # What is enclosed or touches is told within the structure's own box, so nothing changes by cutting the rest off.
        self._prediction, self._truth = (blosc2.pack_tensor(np.ascontiguousarray(each[inside])) for each in (prediction_zyx, truth_zyx))
        self.grid, self._annotated = grid, annotated

    def prediction(self) -> IntArray:
        """(z, y, x) label values within the box."""
        return np.asarray(blosc2.unpack_tensor(self._prediction))

    def volumes_mm(self, labels: LabelSpec) -> dict[str, float]:
        """True volume of each class in mm³ (mm² of planar images)."""
        truth = np.asarray(blosc2.unpack_tensor(self._truth))
        return {entry.name: float(np.isin(truth, entry.values).sum()) * self.grid.voxel_size() for entry in labels.classes}

    def scored(self, steps: Sequence[Step], labels: LabelSpec) -> dict[str, OverlapScore]:
        """The scores of every class after some steps; undefined for classes that are not annotated here."""
        after = apply_postprocessing(self.prediction(), steps, self.grid)
        found = overlap(after, np.asarray(blosc2.unpack_tensor(self._truth)), labels)
        undefined = OverlapScore.from_counts(0, 0, 0)
        return {name: score if self._annotated is None or name in self._annotated else undefined for name, score in found.items()}


def tune_postprocessing(
    files: Mapping[str, tuple[Path, Path]], labels: LabelSpec, runtime: Runtime, annotated: Mapping[str, Sequence[str]]
) -> Tuned:
    """Tries every step on all cases and keeps those that help.

    Args:
        files: Case → (predicted, true label map).
        labels: The dataset's.
        runtime: Workers and progress.
        annotated: Names of the annotated classes by case; of cases not named, all are.

    Raises:
        ImageError: A file cannot be read.
    """
    cases: dict[str, HeldOut] = {}
    with runtime.progress("postprocessing: reading", len(files)) as advance:
        for case, held in map_ordered(lambda case: _read(*files[case], annotated.get(case)), list(files), runtime.workers):
            if isinstance(held, AutounetError):
                raise held
            cases[case] = held
            advance(1, case)
    return _Trial(cases, labels, runtime).run()


def _read(prediction: Path, truth: Path, annotated: Sequence[str] | None) -> HeldOut:
    values, grid = read_labels(prediction)
    return HeldOut(values, read_labels(truth)[0], grid, annotated)


class _Trial:
    """Tries steps one after the other on top of those that were kept."""

    def __init__(self, cases: Mapping[str, HeldOut], labels: LabelSpec, runtime: Runtime) -> None:
        self._cases, self._labels, self._runtime = cases, labels, runtime
        self._kept: list[Step] = []
        self._decisions: list[Decision] = []
        self._best = self._scores(())

    def run(self) -> Tuned:
        before = self._best
        with self._runtime.progress("postprocessing: trying", self._count()) as advance:
            for alternatives, better in self._wishes():
                self._try(alternatives, better)
                advance(1, "")
        return Tuned(tuple(self._kept), tuple(self._decisions), before, self._best)

    def _wishes(self) -> Iterator[tuple[Sequence[Step], Callable[[Scores], float | None]]]:
        """Alternatives of which at most one is kept, and the number that it must raise."""
        everything = tuple(self._labels.foreground_values)
        yield [KeepLargest(values=everything)], _mean_dice
        single = len(self._labels.classes) == 1
        if not single:
            for entry in self._labels.classes:
                yield [KeepLargest(values=entry.values)], functools.partial(_class_dice, entry.name)
        typical = self._typical_mm()
        for entry in self._labels.classes:
            own = functools.partial(_class_dice, entry.name)
            if typical[entry.name] > 0:
                sizes = [_rounded(share * typical[entry.name]) for share in SMALL_SHARES]
                yield [RemoveSmall(kind="remove_small", values=entry.values, below_mm=size) for size in sizes], own
            yield [FillHoles(kind="fill_holes", values=self._painted_first(entry.values))], own

    def _count(self) -> int:
        return sum(1 for _ in self._wishes())

    def _try(self, alternatives: Sequence[Step], better: Callable[[Scores], float | None]) -> None:
        base, tried = self._best, []
        for step in alternatives:
            scores = self._scores((*self._kept, step))
            worse = tuple(name for name in base.classes if _below(_class_dice(name, scores), _class_dice(name, base)))
            helps = _below(better(base), better(scores)) and not worse
            tried.append((step, scores, worse, helps))
        best = max((scores for _, scores, _, helps in tried if helps), key=lambda scores: better(scores) or 0.0, default=None)
        for step, scores, worse, _ in tried:
            kept = scores is best
            self._decisions.append(Decision(step=step, kept=kept, mean_before=base.mean.dice, mean_after=scores.mean.dice, worse=worse))
            if kept:
                self._kept.append(step)
                self._best = scores

    def _scores(self, steps: Sequence[Step]) -> Scores:
        found = map_ordered(lambda case: self._cases[case].scored(steps, self._labels), list(self._cases), self._runtime.workers)
        scored: dict[str, dict[str, OverlapScore]] = {}
        for case, result in found:
            if isinstance(result, AutounetError):
                raise result
            scored[case] = result
        return Scores.of(scored)

    def _typical_mm(self) -> dict[str, float]:
        volumes = [held.volumes_mm(self._labels) for held in self._cases.values()]
        there = {name: [each[name] for each in volumes if each[name] > 0] for name in self._labels.names}
        return {name: float(np.median(sizes)) if sizes else 0.0 for name, sizes in there.items()}

    def _painted_first(self, values: tuple[int, ...]) -> tuple[int, ...]:
        """A region's values, that one first with which it is painted: holes get it."""
        if not self._labels.overlapping:
            return values
        order = dict(zip((entry.values for entry in self._labels.classes), self._labels.paint_order, strict=True))
        paint = order[values]
        return (paint, *(value for value in values if value != paint))


def _mean_dice(scores: Scores) -> float | None:
    return scores.mean.dice


def _class_dice(name: str, scores: Scores) -> float | None:
    return scores.classes[name].dice


def _below(first: float | None, second: float | None) -> bool:
    """Whether the first is less; nothing is said of what is undefined."""
    return first is not None and second is not None and first < second


def _rounded(size_mm: float) -> float:
    """Two significant digits, for people to read."""
    return round(size_mm, 1 - math.floor(math.log10(size_mm)))
