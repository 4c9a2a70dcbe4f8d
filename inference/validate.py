"""Predict the held-out cases of a fold on their original grid, and score them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from autounet.artefact import digest_of, readable_json, write_text_atomic
from autounet.checkpoint import weights_identity
from autounet.dataset import Case, DatasetSpec
from autounet.errors import ArtefactError, DatasetError, ImageError
from autounet.evaluation.folders import evaluate_cases
from autounet.evaluation.scores import Scores
from autounet.image_names import DICOM, SEG, WRITTEN_ENDINGS, image_format, image_state, split_ending
from autounet.images import read_labels
from autounet.inference.model import TrainedFold, load_folds
from autounet.inference.run import PredictionJob, predict_cases
from autounet.layout import FoldLayout
from autounet.plan import Configuration, Plan
from autounet.runtime import Runtime
from autounet.text_files import read_text


def validate_fold(
    dataset: DatasetSpec,
    held_out: Sequence[str],
    plan: Plan,
    configuration: Configuration,
    layout: FoldLayout,
    runtime: Runtime,
    made_from: Mapping[str, str] | None = None,
    previous: Mapping[str, Path] | None = None,
) -> Scores:
    """Writes a label map for every held-out case into the fold's ``validation`` folder, and ``scores.json``.

    ``previous``, for the second stage of a cascade: by case, the label map of the first stage's fold that held the case out, too. The
    first stage's other folds have learnt from it. Source: nnunetv2 2.8.1, ``nnUNetTrainer.py``, perform_actual_validation.

    Raises:
        DatasetError: Cases could not be predicted; ``problems`` has every failure.
    """
    cases: dict[str, Case] = {case.id: case for case in dataset.cases if case.id in set(held_out)}
    model = load_folds(plan, [TrainedFold(configuration.name, layout.root.name.removeprefix("fold_"), layout.weights)], runtime)
    ending, first = label_ending(plan.file_ending), previous or {}
    jobs = [
        PredictionJob(name, case.images, layout.validation / f"{name}{ending}", previous=first.get(name)) for name, case in cases.items()
    ]
    # An interrupted validation goes on: what these weights have predicted, from these images, is kept.
    identity = weights_identity(layout.weights)
    _keep_own(layout, identity, [job.output for job in jobs])
    known, before = read_confidence(layout), read_images(layout)
    now = {name: images_digest(case) for name, case in cases.items()}  # before any is read
    stale = {name for name, digest in before.items() if digest != now.get(name)}
    todo = [job for job in jobs if job.case not in known or job.case in stale or not is_kept(job.output)]
    expected = {case: value for case, value in known.items() if case in cases and case not in stale}
    images = {case: digest for case, digest in before.items() if case in expected}

    def note(case: str, expected_dice: float | None) -> None:
        expected[case], images[case] = expected_dice, now[case]
        _write_notes(layout, identity, expected, images)

    problems = predict_cases(model, todo, runtime, written=note).problems
    if problems:
        raise DatasetError(f"{len(problems)} of {len(jobs)} held-out cases could not be predicted", problems=problems)
    files = {job.case: (job.output, cases[job.case].label) for job in jobs}
    scores = evaluate_cases(
        files,
        plan.labels,
        runtime,
        made_from={"plan": plan.recipe(configuration.name), "weights": identity, **(made_from or {})},
        annotated={case.id: case.annotated for case in cases.values() if case.annotated is not None},
    )
    scores.save(layout.scores)
    return scores


def _keep_own(layout: FoldLayout, identity: str, predictions: Sequence[Path]) -> None:
    """Removes label maps of other weights, and notes whose those to come are. Raises ArtefactError."""
    if _read_notes(layout).get("weights") != identity:
        remove_predictions(predictions)
        _write_notes(layout, identity, {}, {})


def _write_notes(layout: FoldLayout, identity: str, expected_dice: Mapping[str, float | None], images: Mapping[str, str]) -> None:
    content = {"expected_dice": dict(sorted(expected_dice.items())), "images": dict(sorted(images.items())), "weights": identity}
    write_text_atomic(layout.confidence, readable_json(content) + "\n")


def _read_notes(layout: FoldLayout) -> dict[str, Any]:
    try:
        found = json.loads(read_text(layout.confidence))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def read_confidence(layout: FoldLayout) -> dict[str, float | None]:
    """Held-out case → expected Dice; empty where nothing readable is there."""
    try:
        return {str(case): None if value is None else float(value) for case, value in _read_notes(layout)["expected_dice"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return {}


def read_images(layout: FoldLayout) -> dict[str, str]:
    """Held-out case → ``images_digest`` of what its label map was predicted from; empty where it was not noted, or is not readable."""
    found = _read_notes(layout).get("images")
    return {str(case): str(digest) for case, digest in found.items()} if isinstance(found, dict) else {}


def images_digest(case: Case) -> str:
    """Digest of the names, sizes and times of a case's images, not of its label map; empty where one is gone, as reading it will tell."""
    try:
        return digest_of([[path.name, *image_state(path)] for path in case.images])
    except OSError:
        return ""


def remove_predictions(predictions: Sequence[Path]) -> None:
    """Removes label maps, as far as they are there. Raises ArtefactError."""
    for path in predictions:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            remedy = "check the folder's permissions"
            raise ArtefactError(f"{path}: cannot be removed", found=error.strerror or error, remedy=remedy) from None


def is_kept(prediction: Path) -> bool:
    """Whether a label map is there and whole."""
    if not prediction.exists():
        return False
    try:
        read_labels(prediction)
    except ImageError:
        return False
    return True


PLAIN = {".jpg": ".png", ".jpeg": ".png"}
"""Endings of images → of their label maps, where these differ: JPEG would change label values."""


def label_ending(image_ending: str) -> str:
    """Ending of the label maps in a run folder for images of this ending: the same where it can hold them, else NIfTI."""
    ending = PLAIN.get(image_ending.lower(), image_ending)
    return ending if ending.lower() in WRITTEN_ENDINGS else ".nii.gz"


def output_ending(image: Path) -> str:
    """Ending of a label map that goes back to where its image came from: a DICOM segmentation for DICOM, else as ``label_ending``."""
    return SEG if image_format(image) == DICOM else label_ending(split_ending(image)[1])
