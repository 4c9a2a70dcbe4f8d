"""``autounet predict``: label maps for new images, from the trained folds of a run folder or a bundle, on the images' own grids."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from autounet.artefact import readable_json, write_text_atomic
from autounet.bundle import Bundle
from autounet.cli.console import duration
from autounet.cli.models import Chosen, Wish, choose_parts
from autounet.cli.session import Session, check_writable
from autounet.cli.stages import some
from autounet.dataset import channel_problems, name_problems
from autounet.device import pick_device, pick_precision
from autounet.errors import DatasetError, UsageError
from autounet.image_names import (
    DICOM,
    IMAGE_ENDINGS,
    WRITTEN_ENDINGS,
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
from autounet.inference.run import Predicted, PredictionJob, predict_cases
from autounet.inference.validate import label_ending
from autounet.layout import RunLayout
from autounet.planners.words import count
from autounet.selection import JOIN
from autounet.splits import in_words
from autounet.text_files import read_text

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


def run_predict(session: Session, model: RunLayout | Bundle, request: Request) -> None:
    """Predicts every image that has no label map yet, and reports what was done and what failed."""
    pick_precision(session.runtime, pick_device(session.runtime))
    chosen = choose_parts(
        session, model, Wish(request.configuration, request.folds, request.postprocess, request.uncertainty, request.mirror)
    )
    plan = chosen.plan
    cases = find_inputs(request.images, len(plan.channels))
    outputs = name_outputs(request.images, cases, request.output)
    faults = {
        case: [*name_problems(case), *channel_problems(case, files, len(plan.channels), "the model")] for case, files in cases.items()
    }
    problems = [problem for found in faults.values() for problem in found]
    jobs = [_job(case, files, outputs[case], request) for case, files in cases.items() if not faults[case]]
    record = None if is_image_name(request.output) and not request.output.is_dir() else request.output / RECORD
    known = read_record(record)
    other = [job for job in jobs if known.get(job.output.name, chosen.identity) != chosen.identity and _is_there(job.output)]
    if other and not request.overwrite:
        session.screen.warn(f"predicted by another model or in another way, and predicted anew: {some([job.case for job in other])}")
    todo = [job for job in jobs if request.overwrite or job in other or not _is_there(job.output)]
    warn_of_probabilities(session, jobs, todo, request)
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
        result = predict_cases(loaded, todo, session.runtime, request.mirror, request.memory_gb)
        problems += result.problems
        failures = {problem.case for problem in result.problems}
        write_record(record, known | {job.output.name: chosen.identity for job in todo if job.case not in failures})
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
        found = {} if path is None else json.loads(read_text(path))["predicted_by"]
        return {str(name): str(identity) for name, identity in found.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
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
        uncertainty=output.parent / UNCERTAINTY / f"{stem}{ending}" if request.uncertainty else None,
    )


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


def find_inputs(images: Path, channels: int) -> dict[str, tuple[Path, ...]]:
    """Cases to predict: name → files, one per channel or one with all. Raises UsageError or DatasetError."""
    inside = archive_of(images) is not None
    if images.is_file() or inside:
        stem = split_ending(images)[0]
        if not image_format(images):
            raise UsageError(f"-i {images}: not an image", expected=f"one of {' '.join(IMAGE_ENDINGS)}")
        if inside and images.is_file():  # a zip, of one series or of many
            return group_named(dicom_cases(images) or {images: stem})
        if channels > 1 and stem.endswith("_0000") and len(stem) > 5:
            groups = group_channels([file for file in image_files(images.parent) if split_ending(file)[0][:-5] == stem[:-5]])
            return {stem[:-5]: groups.get(stem[:-5], (images,))}
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


def _named_images(folder: Path) -> dict[Path, str]:
    """Images in a folder, and DICOM anywhere below it and in its zips, each with its name without ending."""
    files = image_files(folder)
    stems = {file: split_ending(file)[0] for file in files if image_format(file) != DICOM}
    if len(stems) < len(files) or holds_dicom(folder):
        zips = [file for file in files if file.suffix.lower() == ZIP and file.is_file()]
        # A file named as DICOM that is none must not be missed: reading it says what is wrong.
        stems |= {
            file: split_ending(file)[0] for file in files if file.suffix.lower() == DICOM and not file.is_dir() and not is_dicom(file)
        }
        stems |= dicom_cases(folder) | {path: name for file in zips for path, name in (dicom_cases(file) or {file: file.stem}).items()}
    return stems


def name_outputs(images: Path, cases: dict[str, tuple[Path, ...]], output: Path) -> dict[str, Path]:
    """Where each case goes: the output folder, with the image's ending (PNG for JPEG); or the file named for a single image."""
    if output.is_file() and not is_image_name(output):
        raise UsageError(f"-o {output}: is a file", expected="a folder, or for one image the name of a label map")
    if is_image_name(output) and not output.is_dir():
        if len(cases) != 1:
            raise UsageError(f"-o {output}: one file for {len(cases)} images", expected="a folder")
        ending = split_ending(output)[1].lower()
        if ending not in WRITTEN_ENDINGS:
            what = "JPEG changes label values" if ending in (".jpg", ".jpeg") else f"label maps are not written as {ending}"
            raise UsageError(f"-o {output}: {what}", remedy="choose another file type, such as .png or .nii.gz")
        outputs = {next(iter(cases)): output}
    else:
        if images.is_dir() and output.resolve() == images.resolve():
            raise UsageError(
                f"-o {output}: is the folder of the images, where label maps would pass for images", remedy="choose another folder"
            )
        if (output.parent / "dataset.json").is_file() and output.name.lower().startswith(("labels", "images")):
            raise UsageError(f"-o {output}: is a folder of the dataset, whose files would be replaced", remedy="choose another folder")
        outputs = {case: output / f"{case}{label_ending(split_ending(files[0])[1])}" for case, files in cases.items()}
    inputs = {file.resolve() for files in cases.values() for file in files}
    clash = [path for path in outputs.values() if path.resolve() in inputs]
    if clash:
        raise UsageError(f"-o {output}: would replace the image {clash[0]}", remedy="choose another folder")
    return outputs


def is_image_name(path: Path) -> bool:
    """Whether a path names an image file rather than a folder."""
    return bool(split_ending(path)[1])
