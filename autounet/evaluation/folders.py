"""Scoring of label map files: pairs of files, or two folders whose files are matched by name."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np

from autounet.errors import AutounetError, DatasetError, ImageError, Problem, UsageError
from autounet.evaluation.case import ABSENT, UNDEFINED, ClassScore, score_case
from autounet.evaluation.scores import Scores, VolumeUnit
from autounet.evaluation.surface import TOLERANCE_MM
from autounet.geometry import Grid
from autounet.image_names import DICOM, DRAWN_ENDINGS, PLACELESS_ENDINGS, image_files, image_format, split_ending
from autounet.images import read_labels, read_size
from autounet.images.drawn import frame_of_segments
from autounet.images.painting import drawn_on
from autounet.labels import IntArray, LabelSpec, StructureClass
from autounet.parallel import map_ordered
from autounet.runtime import Runtime

logger = logging.getLogger(__name__)

MOST_NAMES = 5
"""So many cases are named where many are concerned."""

DRAWN = (DICOM, *DRAWN_ENDINGS)
"""Formats of structures that are drawn apart from an image."""

ALL_ANNOTATED: Mapping[str, Sequence[str]] = MappingProxyType({})
"""All classes in all cases."""


@dataclass(frozen=True, slots=True)
class Pair:
    """The two label maps of one case."""

    case: str
    prediction: Path
    truth: Path


@dataclass(frozen=True, slots=True)
class Scored:
    """One case's scores."""

    scores: dict[str, ClassScore]
    ndim: int


def evaluate_folders(
    predictions: Path,
    truths: Path,
    labels: LabelSpec | None,
    runtime: Runtime,
    made_from: Mapping[str, str] | None = None,
    annotated: Mapping[str, Sequence[str]] = ALL_ANNOTATED,
    tolerance_mm: float = TOLERANCE_MM,
    present_only: bool = False,
) -> Scores:
    """Scores every label map of ``truths`` against the file of the same name, whatever its ending, in ``predictions``.

    Predictions without a truth are named in a warning and not scored. A truth without a prediction is a problem, as leaving it out could
    raise the means unseen.

    Args:
        predictions: Folder of predicted label maps.
        truths: Folder of true label maps.
        labels: What the values mean; None makes every value found a class named by its number ("1", "2", …).
        runtime: Workers and progress.
        made_from: Content hashes to note in the artefact.
        annotated: Names of the annotated classes by the name of the truth; of cases not named, all are. Others are undefined there.
        tolerance_mm: Of the normalised surface Dice.
        present_only: Score the truths that have a prediction; a warning tells how many have none.

    Raises:
        UsageError: A folder does not exist.
        DatasetError: Predictions are missing or files cannot be used; ``problems`` has every finding of every case.
    """
    problems: list[Problem] = []
    true_files, found_files = (_by_stem(folder, problems) for folder in (truths, predictions))
    if not true_files:
        raise DatasetError(f"{truths}: no label maps in this folder", remedy="give the folder of the true label maps")
    missing = [case for case in true_files if case not in found_files]
    if len(missing) == len(true_files):
        raise DatasetError(
            f"{predictions}: no prediction for any of the {len(missing)} label maps in {truths}",
            found=_some([file.name for file in found_files.values()]) or "no label maps",
            expected=f"files named like the true ones: {_some(missing)}",
        )
    if missing and present_only:
        logger.warning("no prediction for %d of %d truths, which are not scored (%s)", len(missing), len(true_files), _some(missing))
    elif missing:
        whose = missing[0] if len(missing) == 1 else f"{len(missing)} cases"
        what = f"no prediction in {predictions} for {len(missing)} of {len(true_files)} truths: {_some(missing)}"
        problems.append(Problem(whose, what, "predict them too; or score those that are there with --present"))
    extra = [file.name for case, file in found_files.items() if case not in true_files]
    if extra:
        logger.warning("not scored, as %s has no truth for them: %d predictions (%s)", truths, len(extra), _some(extra))
    pairs = [Pair(case, found_files[case], file) for case, file in true_files.items() if case in found_files]
    return _evaluate(pairs, labels, runtime, problems, made_from, annotated, tolerance_mm)


def evaluate_cases(
    files: Mapping[str, tuple[Path, Path]],
    labels: LabelSpec | None,
    runtime: Runtime,
    made_from: Mapping[str, str] | None = None,
    annotated: Mapping[str, Sequence[str]] = ALL_ANNOTATED,
    tolerance_mm: float = TOLERANCE_MM,
) -> Scores:
    """Scores the given cases.

    Args:
        files: Case identifier → (predicted label map, true label map).
        labels: As for ``evaluate_folders``.
        runtime: Workers and progress.
        made_from: Content hashes to note in the artefact.
        annotated: As for ``evaluate_folders``, by case identifier.
        tolerance_mm: Of the normalised surface Dice.

    Raises:
        DatasetError: Files cannot be read or do not fit each other; ``problems`` has every finding of every case.
    """
    return _evaluate([Pair(case, *paths) for case, paths in files.items()], labels, runtime, [], made_from, annotated, tolerance_mm)


def _evaluate(
    pairs: list[Pair],
    labels: LabelSpec | None,
    runtime: Runtime,
    problems: list[Problem],
    made_from: Mapping[str, str] | None,
    annotated: Mapping[str, Sequence[str]],
    tolerance_mm: float,
) -> Scores:
    cases: dict[str, dict[str, ClassScore]] = {}
    axes: set[int] = set()

    def score(pair: Pair) -> Scored:
        return _score(pair, labels, annotated.get(pair.case), tolerance_mm)

    with runtime.progress("Scoring", len(pairs)) as advance:
        for pair, result in map_ordered(score, pairs, runtime.workers):
            if isinstance(result, AutounetError):
                problems.extend(_problems_of(pair.case, result))
            else:
                cases[pair.case] = result.scores
                axes.add(result.ndim)
            advance(1, pair.case)
    if problems:
        shown = "; ".join(f"{problem.case}: {problem.what}" for problem in problems[:3]) + ("; …" if len(problems) > 3 else "")
        many = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
        raise DatasetError(f"{many} with the label maps to be scored", problems=problems, found=shown)
    if labels is None:
        cases = _with_all_classes(cases)
    unit: VolumeUnit | None = "mm2" if axes == {2} else "mm3" if axes == {3} else None
    return Scores.of(cases, made_from, tolerance_mm, unit)


def _score(pair: Pair, labels: LabelSpec | None, annotated: Sequence[str] | None, tolerance_mm: float) -> Scored:
    """Reads, checks and scores one case, of which ``annotated`` (None: all) classes are. Raises ImageError or DatasetError."""
    (truth, truth_grid), (prediction, prediction_grid) = _both(pair, labels)
    if any(image_format(file) in PLACELESS_ENDINGS for file in (pair.truth, pair.prediction)):
        # One of them does not know where it lies: voxel by voxel they belong together all the same.
        prediction_grid = prediction_grid.model_copy(update={name: getattr(truth_grid, name) for name in ("origin_mm_xyz", "direction")})
    differences = prediction_grid.differences(truth_grid)
    if differences:
        raise ImageError(
            f"{pair.prediction.name} and its truth {pair.truth.name} differ in {'; '.join(differences)}",
            expected="the same grid",
            remedy="predict on the image that the truth was drawn on, or resample one of the two",
        )
    if labels is None:
        found = _classes_found(pair, prediction, truth)
        return Scored({} if found is None else score_case(prediction, truth, truth_grid, found, tolerance_mm), truth_grid.ndim)
    problems = []
    for file, values in ((pair.truth, truth), (pair.prediction, prediction)):
        unknown = labels.unknown_values(values)
        if unknown:
            shown = ", ".join(str(value) for value in unknown[:8]) + (" …" if len(unknown) > 8 else "")
            what = f"{file.name} has label values that the dataset does not name: {shown}"
            problems.append(Problem(pair.case, what, "give the dataset that these label maps belong to, or correct them"))
    if problems:
        raise DatasetError(problems[0].what, problems=problems)
    labels.check_annotated(truth, annotated, pair.truth.name)
    scores = score_case(prediction, truth, truth_grid, labels, tolerance_mm)
    if annotated is not None:
        scores = {name: score if name in annotated else UNDEFINED for name, score in scores.items()}
    return Scored(scores, truth_grid.ndim)


def _both(pair: Pair, labels: LabelSpec | None) -> tuple[tuple[IntArray, Grid], tuple[IntArray, Grid]]:
    """The true label map and the predicted one; a DICOM SEG or RTSTRUCT comes on the voxels of the other. Raises ImageError."""
    if image_format(pair.prediction) in DRAWN:
        frame = frame_of_segments(pair.truth)
        if image_format(pair.truth) in DRAWN:  # by the names of its structures as well
            grid = read_size(pair.truth)[1]
            truth = drawn_on(grid, pair.truth, labels, frame)
        else:
            truth, grid = read_labels(pair.truth)
        return (truth, grid), (drawn_on(grid, pair.prediction, labels, frame), grid)
    prediction = read_labels(pair.prediction)
    if image_format(pair.truth) in DRAWN:
        return (drawn_on(prediction[1], pair.truth, labels, frame_of_segments(pair.prediction)), prediction[1]), prediction
    return read_labels(pair.truth), prediction


def _classes_found(pair: Pair, prediction: IntArray, truth: IntArray) -> LabelSpec | None:
    """Every value of two label maps as a class; None when both hold background alone."""
    values = [int(value) for value in np.union1d(np.unique(prediction), np.unique(truth)) if value != 0]
    if values and values[0] < 0:
        raise ImageError(f"{pair.case}: negative label value", found=values[0], expected="0 for background, 1 and more for classes")
    if not values:
        return None
    return LabelSpec(classes=tuple(StructureClass(name=str(value), values=(value,)) for value in values))


def _with_all_classes(cases: Mapping[str, Mapping[str, ClassScore]]) -> dict[str, dict[str, ClassScore]]:
    """Every case with every class of all cases, in ascending order; a class not seen in a case is undefined there."""
    names = sorted({name for scores in cases.values() for name in scores}, key=int)
    return {case: {name: scores.get(name, ABSENT) for name in names} for case, scores in cases.items()}


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:MOST_NAMES]) + (", …" if len(names) > MOST_NAMES else "")


def _by_stem(folder: Path, problems: list[Problem]) -> dict[str, Path]:
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder", remedy="give a folder of label maps")
    files: dict[str, Path] = {}
    for file in image_files(folder):
        stem = split_ending(file)[0]
        if stem in files:
            problems.append(Problem(stem, f"two files of this name in {folder}: {files[stem].name} and {file.name}", "keep one"))
        files.setdefault(stem, file)
    return files


def _problems_of(case: str, error: AutounetError) -> list[Problem]:
    if isinstance(error, DatasetError) and error.problems:
        return list(error.problems)
    return [Problem.of(case, error, "correct or remove the file")]
