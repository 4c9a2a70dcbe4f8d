"""``autounet predict``: label maps for new images, from the trained folds of a run folder or a bundle, on the images' own grids."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from autounet.artefact import readable_json, remove_leftovers, write_text_atomic
from autounet.bundle import Bundle
from autounet.cli.console import duration
from autounet.cli.locks import claimed, clear_stale, one_at_a_time
from autounet.cli.models import Chosen, Wish, choose_parts
from autounet.cli.session import Session, check_writable
from autounet.cli.stages import some
from autounet.dataset import channel_problems, name_problems
from autounet.device import pick_device, pick_precision
from autounet.errors import ArtefactError, AutounetError, DatasetError, UsageError
from autounet.image_names import IMAGE_ENDINGS, LABEL_ENDINGS, group_channels, image_files, split_ending
from autounet.inference.run import Predicted, PredictionJob, predict_cases
from autounet.inference.validate import label_ending
from autounet.layout import RunLayout
from autounet.planners.words import count
from autounet.selection import JOIN
from autounet.splits import in_words

UNCERTAINTY = "uncertainty"
"""Folder beside the label maps."""

RECORD = ".predicted_by.json"
"""In the folder of label maps."""

CLAIMS = ".predicting-"
"""Beginning of the names of files that say which command predicts what at this moment."""

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
    for folder in dict.fromkeys(path.parent for job in jobs for path in (job.output, job.uncertainty) if path is not None):
        remove_leftovers(folder)
        for path in folder.glob(f"{CLAIMS}*"):
            clear_stale(path)
    known = read_record(record)
    todo = missing(session, jobs, known, chosen.identity, request)
    warn_of_probabilities(session, jobs, todo, request)
    unsure = [job.case for job in jobs if job not in todo and job.uncertainty is not None and not job.uncertainty.exists()]
    if unsure:
        session.screen.warn(f"predicted already, without uncertainty: {some(unsure)}; --overwrite predicts them anew")
    warn_of_age(session, chosen, [job for job in jobs if job not in todo and job.output.name not in known])
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
        folder = todo[0].output.parent
        check_writable(folder, "-o")
        with shared_folder(session, folder, todo) as mine:
            known = read_record(record)  # another command may have been at work meanwhile
            todo = [
                job
                for job in mine
                if request.overwrite or not _is_there(job.output) or known.get(job.output.name, chosen.identity) != chosen.identity
            ]
            loaded = chosen.load()
            # Noted before, so that what is done when this command is killed is known to be of this model.
            note_predicted(record, [job for job in todo if not _is_there(job.output)], chosen.identity)
            result = predict_cases(loaded, todo, session.runtime, request.mirror, request.memory_gb)
            problems += result.problems
            failures = {problem.case for problem in result.problems}
            note_predicted(record, [job for job in todo if job.case not in failures], chosen.identity)
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


def missing(
    session: Session, jobs: Sequence[PredictionJob], known: Mapping[str, str], identity: str, request: Request
) -> list[PredictionJob]:
    """What is to be predicted: what is not there, what another model has predicted, or with ``--overwrite`` all."""
    other = [job for job in jobs if known.get(job.output.name, identity) != identity and _is_there(job.output)]
    if other and not request.overwrite:
        session.screen.warn(f"predicted by another model or in another way, and predicted anew: {some([job.case for job in other])}")
    return [job for job in jobs if request.overwrite or job in other or not _is_there(job.output)]


@contextmanager
def shared_folder(session: Session, folder: Path, todo: Sequence[PredictionJob]) -> Iterator[list[PredictionJob]]:
    """Claims the label maps that no other command is predicting into the same folder at this moment.

    Raises:
        AutounetError: Others are predicting all of them.
    """
    with claimed(folder, CLAIMS, [job.output.name for job in todo]) as (mine, others):
        left = [job for job in todo if job.output.name in mine]
        if others:
            what = f"{count(len(todo) - len(left), 'image')} of {len(todo)} {'is' if len(todo) - len(left) == 1 else 'are'} being predicted"
            if not left:
                raise AutounetError(f"{folder}: {what} already", found="; ".join(others), remedy="wait for it; nothing is done twice")
            session.screen.warn(f"{what} by another command, and left to it: {'; '.join(others)}")
        yield left


def read_record(path: Path | None) -> dict[str, str]:
    """Label map → what predicted it, as ``note_predicted`` noted; empty where there is no record, or a damaged one.

    Raises:
        ArtefactError: The disk refuses to read it.
    """
    try:
        found = {} if path is None else json.loads(path.read_text(encoding="utf-8"))["predicted_by"]
        return {str(name): str(identity) for name, identity in found.items()}
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError, AttributeError):
        return {}
    except OSError as error:
        raise ArtefactError(f"{path}: cannot be read", found=error.strerror or error, remedy="check the disk, and try again") from None


def note_predicted(path: Path | None, jobs: Sequence[PredictionJob], identity: str) -> None:
    """Notes what predicts label maps of a folder: those of another model are not taken for this one's. Raises ArtefactError."""
    if path is not None and jobs:
        with one_at_a_time(path.with_name(f"{CLAIMS}note"), lambda holder: None):
            known = read_record(path) | {job.output.name: identity for job in jobs}
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
    if images.is_file():
        stem, ending = split_ending(images)
        if not ending:
            raise UsageError(f"-i {images}: not an image", expected=f"one of {' '.join(IMAGE_ENDINGS)}")
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
    files = image_files(images)
    if not files:
        raise UsageError(f"-i {images}: no images in this folder", expected=f"files ending in {' '.join(IMAGE_ENDINGS)}")
    groups = group_channels(files)
    endings: dict[str, list[str]] = {}
    for file in files:
        endings.setdefault(split_ending(file)[0], []).append(file.name)
    twice = [names for names in endings.values() if len(names) > 1]
    if twice:
        raise UsageError(f"-i {images}: two images of the same name", found=", ".join(twice[0]), remedy="keep one of them in the folder")
    return groups


def name_outputs(images: Path, cases: dict[str, tuple[Path, ...]], output: Path) -> dict[str, Path]:
    """Where each case goes: the output folder, with the image's ending (PNG for JPEG); or the file named for a single image."""
    if output.is_file() and not is_image_name(output):
        raise UsageError(f"-o {output}: is a file", expected="a folder, or for one image the name of a label map")
    if is_image_name(output) and not output.is_dir():
        if len(cases) != 1:
            raise UsageError(f"-o {output}: one file for {len(cases)} images", expected="a folder")
        if split_ending(output)[1].lower() not in LABEL_ENDINGS:
            raise UsageError(f"-o {output}: JPEG changes label values", remedy="choose another file type, such as .png")
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
