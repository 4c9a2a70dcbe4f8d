"""``autounet predict``: label maps for new images, from the trained folds of a run folder or a bundle, on the images' own grids."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from autounet.artefact import remove_leftovers
from autounet.bundle import Bundle
from autounet.cli.console import duration
from autounet.cli.inputs import find_inputs, is_table, table_inputs, warn_of_passed_over
from autounet.cli.locks import claimed, clear_stale
from autounet.cli.models import Chosen, Wish, choose_parts
from autounet.cli.outputs import check_per_class, format_ending, is_image_name, name_outputs, output_problems, warn_of_lost_geometry
from autounet.cli.predicted import CLAIMS, RECORD, Source, note_contents, note_predicted, read_record, state_of
from autounet.cli.session import Session, check_writable
from autounet.cli.stages import some
from autounet.dataset import channel_problems, name_problems
from autounet.device import pick_device, pick_precision
from autounet.errors import AutounetError, DatasetError, UsageError
from autounet.image_names import DRAWN_ENDINGS, split_ending
from autounet.images.meaning import Meaning, meaning_of
from autounet.images.separate import file_names
from autounet.images.slicer import TABLES, write_tables
from autounet.inference.run import Predicted, PredictionJob, predict_cases
from autounet.layout import RunLayout
from autounet.planners.words import count
from autounet.selection import JOIN
from autounet.splits import in_words

UNCERTAINTY = "uncertainty"
"""Folder beside the label maps."""

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
    single = is_image_name(request.output) and not request.output.is_dir()
    record = (request.output.parent if single else request.output) / RECORD
    sources = {job.output.name: Source(chosen.identity, state_of(job.images)) for job in jobs}  # before any image is read
    for folder in dict.fromkeys(path.parent for job in jobs for path in (job.output, job.uncertainty) if path is not None):
        remove_leftovers(folder)
        for path in folder.glob(f"{CLAIMS}*"):
            clear_stale(path)
    known = read_record(record)
    todo = missing(session, jobs, known, sources, request)
    warn_of_lost_geometry(session, cases, {job.case: job.output for job in todo})
    warn_of_kept(session, chosen, jobs, [job for job in jobs if job not in todo], known, meaning, request)
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
        result, todo = predict_shared(session, chosen, todo, (record, sources), meaning, request)
        problems += result.problems
    note_contents(record, [job.output for job in jobs], sources)
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


def predict_shared(
    session: Session,
    chosen: Chosen,
    todo: Sequence[PredictionJob],
    noted: tuple[Path, Mapping[str, Source]],
    meaning: Meaning,
    request: Request,
) -> tuple[Predicted, list[PredictionJob]]:
    """Predicts what no other command is predicting into the same folder; gives also what that was.

    ``noted``: the record, and what the label maps will be of, by their names.

    Raises:
        AutounetError: Others are predicting all of it; or the folder cannot be written to.
    """
    folder, (record, sources) = todo[0].output.parent, noted
    check_writable(folder, "-o")
    with shared_folder(session, folder, todo) as mine:
        known = read_record(record)  # another command may have been at work meanwhile
        left = [job for job in mine if request.overwrite or not _is_there(job.output) or _is_stale(job, known, sources)]
        loaded = chosen.load()
        # Noted before, so that what is done when this command is killed is known to be of this model, and what it has replaced till then
        # is not taken for somebody's work: of that it is not known any more as what it was written.
        begun = {name: replace(known[name], content=None) for name in (job.output.name for job in left) if name in known}
        note_predicted(record, begun | {job.output.name: sources[job.output.name] for job in left if not _is_there(job.output)})
        result = predict_cases(loaded, left, session.runtime, request.mirror, request.memory_gb, meaning)
        failures = {problem.case for problem in result.problems}
        kept = {name: known[name] for name in (job.output.name for job in left if job.case in failures) if name in known}
        note_predicted(record, kept | {job.output.name: sources[job.output.name] for job in left if job.case not in failures})
    return result, left


def missing(
    session: Session, jobs: Sequence[PredictionJob], known: Mapping[str, Source], sources: Mapping[str, Source], request: Request
) -> list[PredictionJob]:
    """What is to be predicted: what is not there, what is of another model or of other images, or with ``--overwrite`` all.

    What somebody has worked on since it was predicted is not lost without being asked for.
    """
    if request.overwrite:
        return list(jobs)
    other = {job.case: why for job in jobs if (why := _difference(job, known, sources)) and _is_there(job.output)}
    stale = {job.case for job in jobs if job.case in other and _is_stale(job, known, sources)}
    for why in dict.fromkeys(other.values()):
        cases = [case for case, each in other.items() if each == why]
        if anew := [case for case in cases if case in stale]:
            session.screen.warn(f"{why}, and predicted anew: {some(anew)}")
        if kept := [case for case in cases if case not in stale]:
            session.screen.warn(f"{why}, but changed since, so kept as they are (--overwrite predicts them anew): {some(kept)}")
    return [job for job in jobs if job.case in stale or not _is_there(job.output)]


def _is_stale(job: PredictionJob, known: Mapping[str, Source], sources: Mapping[str, Source]) -> bool:
    """Whether a label map is not what would be predicted now, and as it was written."""
    return bool(_difference(job, known, sources)) and not known[job.output.name].was_changed(job.output)


def _difference(job: PredictionJob, known: Mapping[str, Source], sources: Mapping[str, Source]) -> str:
    """In words, why a label map that is there is not what would be predicted now; empty where it is, or where that is not known."""
    before, now = known.get(job.output.name), sources[job.output.name]
    if before is None:
        return ""
    if before.model != now.model:
        return "predicted by another model or in another way"
    is_other = before.images is not None and now.images is not None and before.images != now.images
    return "predicted from other images, or from these before they changed" if is_other else ""


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


def _job(case: str, files: tuple[Path, ...], output: Path, request: Request) -> PredictionJob:
    return PredictionJob(
        case,
        files,
        output,
        probabilities=_probability_file(output) if request.probabilities else None,
        uncertainty=_uncertainty_file(output) if request.uncertainty else None,
        separate=output.parent / split_ending(output)[0] if request.per_class else None,
    )


def _uncertainty_file(output: Path) -> Path:
    """Map of percentages: NIfTI beside DICOM, whose objects hold structures alone; else as the label map."""
    stem, ending = split_ending(output)
    return output.parent / UNCERTAINTY / f"{stem}{'.nii.gz' if ending.lower() in DRAWN_ENDINGS else ending}"


def _is_there(output: Path) -> bool:
    """Whether a case is predicted. Raises UsageError where something else has its name."""
    if output.is_dir():
        raise UsageError(f"{output}: is a folder, where a label map is to be", remedy="remove it, or choose another folder with -o")
    return output.is_file() and output.stat().st_size > 0


def warn_of_kept(
    session: Session,
    chosen: Chosen,
    jobs: Sequence[PredictionJob],
    kept: Sequence[PredictionJob],
    known: Mapping[str, Source],
    meaning: Meaning,
    request: Request,
) -> None:
    """Says what label maps that are there lack of what is asked for now, which cannot be this model's, what is left beside new ones."""
    lacking = {
        "predicted already, without probabilities": [
            job.case for job in kept if request.probabilities and not _probability_file(job.output).exists()
        ],
        "predicted already, without a file per structure": [
            job.case for job in kept if job.separate is not None and not job.separate.is_dir()
        ],
        "predicted already, without uncertainty": [
            job.case for job in kept if job.uncertainty is not None and not job.uncertainty.exists()
        ],
        "predicted before this model was there": [
            job.case for job in kept if job.output.name not in known and job.output.stat().st_mtime < chosen.made
        ],
    }
    for what, names in lacking.items():
        if names:
            session.screen.warn(f"{what}: {some(names)}; --overwrite predicts them anew")
    anew = [job for job in jobs if job not in kept]
    older = {
        ("files of probabilities", "--probabilities"): [
            job.case for job in anew if job.probabilities is None and _probability_file(job.output).exists()
        ],
        ("maps of uncertainty", "--uncertainty"): [
            job.case for job in anew if job.uncertainty is None and _uncertainty_file(job.output).exists()
        ],
        ("files per structure", "--per-class"): [job.case for job in anew if job.separate is None and _has_separate(job.output, meaning)],
    }
    for (left, option), names in older.items():
        if names:
            session.screen.warn(f"{left} are of an earlier prediction: {some(names)}; {option} makes them anew")


def _has_separate(output: Path, meaning: Meaning) -> bool:
    """Whether files of structures are there, other than anything that merely has the case's name, such as its image."""
    stem, ending = split_ending(output)
    try:
        names = file_names(meaning)
    except UsageError:  # no such files can have been written
        return False
    return any((output.parent / stem / f"{name}{ending}").exists() for name in names)


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
