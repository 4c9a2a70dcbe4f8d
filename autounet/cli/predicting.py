"""``autounet predict``: label maps for new images, from the trained folds of a run folder or a bundle, on the images' own grids."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from autounet.artefact import readable_json, write_text_atomic
from autounet.bundle import Bundle
from autounet.cli.console import duration
from autounet.cli.inputs import is_table, table_inputs
from autounet.cli.models import Chosen, Wish, choose_parts
from autounet.cli.outputs import check_per_class, format_ending, is_image_name, name_outputs, output_problems, warn_of_lost_geometry
from autounet.cli.session import Session, check_writable
from autounet.cli.stages import some
from autounet.dataset import channel_problems, name_problems
from autounet.device import pick_device, pick_precision
from autounet.errors import DatasetError, UsageError
from autounet.image_names import (
    DICOM,
    DRAWN_ENDINGS,
    FOLDER_ENDINGS,
    IMAGE_ENDINGS,
    ZIP,
    archive_of,
    group_channels,
    group_named,
    holds_dicom,
    image_files,
    image_format,
    is_dicom,
    split_ending,
)
from autounet.images.dicom_cases import dicom_cases
from autounet.images.meaning import meaning_of
from autounet.images.slicer import TABLES, write_tables
from autounet.inference.run import Predicted, PredictionJob, predict_cases
from autounet.layout import RunLayout
from autounet.planners.words import count
from autounet.selection import JOIN
from autounet.splits import in_words

UNCERTAINTY = "uncertainty"
"""Folder beside the label maps."""

RECORD = ".predicted_by.json"
"""In the folder of label maps."""

LEAST_SURE = 3
"""Cases that are named."""


@dataclass(frozen=True, slots=True)
class Request:
    """What to predict, with what."""

    images: Path
    output: Path
    configuration: str | None
    folds: str | None
    mirror: bool
    overwrite: bool
    postprocess: bool = True
    memory_gb: float | None = None
    probabilities: bool = False
    uncertainty: bool = False
    format: str | None = None
    """As typed; None for the images' own."""
    per_class: bool = False
    colours: bool = False


def run_predict(session: Session, model: RunLayout | Bundle, request: Request) -> None:
    """Predicts every image that has no label map yet, and reports what was done and what failed."""
    pick_precision(session.runtime, pick_device(session.runtime))
    chosen = choose_parts(
        session, model, Wish(request.configuration, request.folds, request.postprocess, request.uncertainty, request.mirror)
    )
    plan = chosen.plan
    by_table = is_table(request.images)
    cases = table_inputs(request.images, plan.channels) if by_table else find_inputs(request.images, len(plan.channels))
    if not by_table:
        warn_of_passed_over(session, request.images, cases)
    outputs = name_outputs(request.images, cases, request.output, format_ending(request.format))
    meaning = meaning_of(plan.labels, chosen.identity, plan.dataset)
    if request.per_class:
        check_per_class(meaning, outputs)
    faults = {
        case: [*name_problems(case), *([] if by_table else channel_problems(case, files, len(plan.channels), "the model"))]
        for case, files in cases.items()
    }
    for problem in output_problems(cases, outputs):
        faults[problem.case].append(problem)
    problems = [problem for found in faults.values() for problem in found]
    jobs = [_job(case, files, outputs[case], request) for case, files in cases.items() if not faults[case]]
    record = None if is_image_name(request.output) and not request.output.is_dir() else request.output / RECORD
    known = read_record(record)
    other = [job for job in jobs if known.get(job.output.name, chosen.identity) != chosen.identity and _is_there(job.output)]
    if other and not request.overwrite:
        session.screen.warn(f"predicted by another model or in another way, and predicted anew: {some([job.case for job in other])}")
    todo = [job for job in jobs if request.overwrite or job in other or not _is_there(job.output)]
    warn_of_probabilities(session, jobs, todo, request)
    warn_of_lost_geometry(session, cases, {job.case: job.output for job in todo})
    whole = [job.case for job in jobs if job not in todo and job.separate is not None and not job.separate.is_dir()]
    if whole:
        session.screen.warn(f"predicted already, without a file per structure: {some(whole)}; --overwrite predicts them anew")
    unsure = [job.case for job in jobs if job not in todo and job.uncertainty is not None and not job.uncertainty.exists()]
    if unsure:
        session.screen.warn(f"predicted already, without uncertainty: {some(unsure)}; --overwrite predicts them anew")
    warn_of_age(session, chosen, [job for job in jobs if job not in todo])
    there = len(jobs) - len(todo)
    session.screen.say(
        f"{plan.dataset}, {', '.join(f'{name}, {in_words(folds)}' for name, folds in chosen.folds.items())}: "
        f"{count(len(todo), 'image')}"
        + (f"; {there} {'is' if there == 1 else 'are'} predicted already (--overwrite predicts anew)" if there else "")
    )
    if chosen.steps:
        session.screen.say(f"postprocessing: {'; '.join(chosen.steps)} (--no-postprocessing leaves it out)")
    result: Predicted | None = None
    if todo:
        loaded = chosen.load()
        check_writable(next(iter(outputs.values())).parent, "-o")
        result = predict_cases(loaded, todo, session.runtime, request.mirror, request.memory_gb, meaning)
        problems += result.problems
        failures = {problem.case for problem in result.problems}
        write_record(record, known | {job.output.name: chosen.identity for job in todo if job.case not in failures})
    if request.colours and outputs:
        folder = next(iter(outputs.values())).parent
        write_tables(folder, meaning)
        session.screen.say(f"names and colours: {folder / TABLES[0]}, {folder / TABLES[1]}")
    failed = {problem.case: problem.what for problem in problems}
    done = [job for job in todo if job.case not in failed]
    speed = "" if result is None else f" in {duration(result.seconds)}{figures_of(result)}"
    session.screen.result(f"{len(done)} predicted{speed}; {there} skipped, {len(failed)} failed: {request.output}")
    empty = [] if result is None else [case for case, value in result.expected_dice.items() if value is None]
    if empty:
        session.screen.say(f"nothing but background was found in {count(len(empty), 'image')}: {some(empty)}")
    doubtful = least_sure(result)
    if doubtful:
        session.screen.say(f"look at these first, of which the network is least sure (expected Dice): {doubtful}")
    session.screen.json(
        {
            "predicted": [str(job.output) for job in done],
            "skipped": [str(job.output) for job in jobs if job not in todo],
            "failed": failed,
            "folds": list(dict.fromkeys(fold for folds in chosen.folds.values() for fold in folds)),
            "configuration": JOIN.join(chosen.folds),
            "expected_dice": {} if result is None else result.expected_dice,
            "seconds": None if result is None else round(result.seconds, 2),
            "voxels": 0 if result is None else result.voxels,
            "peak_bytes": None if result is None else result.peak_bytes,
        }
    )
    if failed:
        raise DatasetError(
            f"{len(failed)} of {count(len(cases), 'image')} could not be predicted"
            + ("; the others are done" if len(failed) < len(cases) else ""),
            problems=sorted(problems, key=lambda problem: problem.case),
        )


def read_record(path: Path | None) -> dict[str, str]:
    """Label map → what predicted it, as ``write_record`` noted; empty where nothing readable is there."""
    try:
        found = {} if path is None else json.loads(path.read_text(encoding="utf-8"))["predicted_by"]
        return {str(name): str(identity) for name, identity in found.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def write_record(path: Path | None, known: Mapping[str, str]) -> None:
    """Notes what predicted each label map of a folder: those of another model are not taken for this one's. Raises ArtefactError."""
    if path is not None:
        write_text_atomic(path, readable_json({"predicted_by": dict(sorted(known.items()))}) + "\n")


def _job(case: str, files: tuple[Path, ...], output: Path, request: Request) -> PredictionJob:
    stem, ending = split_ending(output)
    return PredictionJob(
        case,
        files,
        output,
        probabilities=_probability_file(output) if request.probabilities else None,
        uncertainty=output.parent / UNCERTAINTY / f"{stem}{_number_ending(ending)}" if request.uncertainty else None,
        separate=output.parent / stem if request.per_class else None,
    )


def _number_ending(ending: str) -> str:
    """Ending of a map of percentages beside label maps: NIfTI beside DICOM, whose objects hold structures alone."""
    return ".nii.gz" if ending.lower() in DRAWN_ENDINGS else ending


def _is_there(output: Path) -> bool:
    """Whether a case is predicted. Raises UsageError where something else has its name."""
    if output.is_dir():
        raise UsageError(f"{output}: is a folder, where a label map is to be", remedy="remove it, or choose another folder with -o")
    return output.is_file() and output.stat().st_size > 0


def warn_of_age(session: Session, chosen: Chosen, kept: Sequence[PredictionJob]) -> None:
    """Says which label maps are kept though they cannot be this model's."""
    older = [job.case for job in kept if job.output.stat().st_mtime < chosen.made]
    if older:
        session.screen.warn(f"predicted before this model was there: {some(older)}; --overwrite predicts them anew")


def warn_of_probabilities(session: Session, jobs: Sequence[PredictionJob], todo: Sequence[PredictionJob], request: Request) -> None:
    """Says where label maps and files of probabilities will not belong together."""
    without = [job.case for job in jobs if job not in todo and request.probabilities and not _probability_file(job.output).exists()]
    if without:
        session.screen.warn(f"predicted already, without probabilities: {some(without)}; --overwrite predicts them anew")
    older = [job.case for job in todo if not request.probabilities and _probability_file(job.output).exists()]
    if older:
        session.screen.warn(f"files of probabilities are of an earlier prediction: {some(older)}; --probabilities makes them anew")


def least_sure(result: Predicted | None) -> str:
    """The cases with the lowest expected Dice, of several."""
    known = [] if result is None else [(value, case) for case, value in result.expected_dice.items() if value is not None]
    return ", ".join(f"{case} {value:.2f}" for value, case in sorted(known)[:LEAST_SURE]) if len(known) > 1 else ""


def figures_of(result: Predicted) -> str:
    """How fast it was and how much memory it took, as the end of a line."""
    seconds = max(result.seconds, 1e-3)
    rate = result.cases / seconds
    pace = f"{rate:.1f} images/s" if rate >= 1 else f"{1 / rate:.1f} s/image" if rate else ""
    figures = [pace, f"{result.voxels / seconds / 1e6:.2g} million voxels/s"] if result.cases else []
    if result.peak_bytes is not None:
        figures.append(f"peak memory {result.peak_bytes / 1e9:.1f} GB")
    return f" ({', '.join(figures)})" if figures else ""


def _probability_file(output: Path) -> Path:
    return output.with_name(f"{split_ending(output)[0]}.npz")


BESIDE = (".raw", ".zraw", ".raw.gz", ".json", ".csv", ".txt", ".md")
"""Endings of files that stand beside images: their voxels, and what is said of them."""


def find_inputs(images: Path, channels: int) -> dict[str, tuple[Path, ...]]:
    """Cases to predict: name → files, one per channel or one with all. Raises UsageError or DatasetError."""
    inside = archive_of(images) is not None
    if images.is_file() or inside or (images.is_dir() and image_format(images) in FOLDER_ENDINGS):
        stem = split_ending(images)[0]
        if not image_format(images):
            raise UsageError(f"-i {images}: not an image", expected=f"one of {' '.join(IMAGE_ENDINGS)}")
        if inside and images.is_file():  # a zip, of one series or of many
            return group_named(dicom_cases(images) or {images: stem})
        if channels > 1 and re.search(r"._\d{4}$", stem):  # any channel of a case stands for all
            groups = group_channels([file for file in image_files(images.parent) if split_ending(file)[0][:-5] == stem[:-5]])
            case = stem[:-5] if stem[:-5] in groups or stem.endswith("_0000") else stem
            return {case: groups.get(case, (images,))}
        return {stem.removesuffix("_0000"): (images,)}
    if not images.is_dir():
        what = (
            "is neither a file nor a folder"
            if images.exists()
            else "is a link to nothing"
            if images.is_symlink()
            else "no such file or folder"
        )
        raise UsageError(f"-i {images}: {what}", remedy="check the path")
    stems = _named_images(images)
    if not stems:
        expected = f"files ending in {' '.join(IMAGE_ENDINGS)}, or DICOM"
        raise UsageError(f"-i {images}: no images in this folder", expected=expected)
    groups = group_named(stems)
    endings: dict[str, list[str]] = {}
    for file, stem in stems.items():
        endings.setdefault(stem, []).append(file.name)
    twice = [names for names in endings.values() if len(names) > 1]
    if twice:
        raise UsageError(f"-i {images}: two images of the same name", found=", ".join(twice[0]), remedy="keep one of them in the folder")
    return groups


def warn_of_passed_over(session: Session, images: Path, cases: Mapping[str, tuple[Path, ...]]) -> None:
    """Says which files of a folder are not taken for images; none is missed in silence."""
    if not images.is_dir() or archive_of(images) is not None or image_format(images) in FOLDER_ENDINGS:
        return
    taken = {file for files in cases.values() for file in files}
    files = [entry for entry in images.iterdir() if entry.is_file() and not entry.name.startswith(".") and entry not in taken]
    over = sorted(file.name for file in files if not file.name.lower().endswith(BESIDE) and not is_dicom(file))
    if over:
        session.screen.warn(f"passed over, not named as images: {count(len(over), 'file')} ({some(over)})")


def _named_images(folder: Path) -> dict[Path, str]:
    """Images in a folder, and DICOM anywhere below it and in its zips, each with its name without ending."""
    files = [file for file in image_files(folder) if split_ending(file)[1].lower() not in DRAWN_ENDINGS]
    stems = {file: split_ending(file)[0] for file in files if image_format(file) != DICOM}
    if len(stems) < len(files) or holds_dicom(folder):
        zips = [file for file in files if file.suffix.lower() == ZIP and file.is_file()]
        # A file named as DICOM that is none must not be missed: reading it says what is wrong.
        stems |= {
            file: split_ending(file)[0] for file in files if file.suffix.lower() == DICOM and not file.is_dir() and not is_dicom(file)
        }
        stems |= dicom_cases(folder) | {path: name for file in zips for path, name in (dicom_cases(file) or {file: file.stem}).items()}
    return stems
