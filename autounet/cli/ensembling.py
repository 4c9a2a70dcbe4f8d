"""``autounet ensemble``: label maps from the mean of probabilities that several predictions of the same images left."""

from collections.abc import Sequence
from pathlib import Path

from autounet.cli.models import plan_of
from autounet.cli.outputs import format_ending
from autounet.cli.session import Session, check_writable
from autounet.cli.stages import some
from autounet.errors import AutounetError, DatasetError, ImageError, Problem, UsageError
from autounet.image_names import DRAWN_ENDINGS, image_files, split_ending
from autounet.images import read_size, write_labels
from autounet.images.meaning import Meaning, meaning_of
from autounet.inference.average import average_labels
from autounet.labels import LabelSpec
from autounet.parallel import map_ordered
from autounet.planners.words import count


def run_ensemble(session: Session, inputs: Sequence[Path], output: Path, dataset: str, overwrite: bool, wanted: str | None = None) -> None:
    """Writes the label map of every case that all folders have.

    Raises:
        UsageError: Fewer than two folders, or folders without probabilities.
        DatasetError: Cases are missing in a folder, or could not be averaged; the others are written.
    """
    folders = {path.resolve() for path in inputs}
    if len(folders) < 2:
        raise UsageError("-i: an ensemble needs two folders or more", found=f"{len(folders)} (different)", remedy="give -i several times")
    if output.resolve() in folders:
        raise UsageError(f"-o {output}: is one of the folders to be averaged", remedy="choose another folder")
    plan = plan_of(session, dataset)
    asked = _plain(wanted)
    found = [_cases(folder) for folder in inputs]
    everywhere = sorted(set.intersection(*(set(each) for each in found)))
    problems = [
        Problem(case, f"no {case}.npz in {folder}", "predict it there with --probabilities, or remove it from the other folders")
        for folder, each in zip(inputs, found, strict=True)
        for case in sorted(set.union(*(set(other) for other in found)) - set(each))
    ]
    check_writable(output, "-o")
    ending = {case: asked or _plain_ending(found[0][case]) for case in everywhere}
    meaning = meaning_of(plan.labels, dataset=plan.dataset)
    todo = [case for case in everywhere if overwrite or not (output / f"{case}{ending[case]}").exists()]
    done = 0
    with session.runtime.progress("average", len(todo)) as advance:
        work = map_ordered(
            lambda case: _average(case, inputs, found[0][case], output / f"{case}{ending[case]}", plan.labels, meaning),
            todo,
            session.runtime.workers,
        )
        for case, result in work:
            if isinstance(result, AutounetError):
                problems.append(Problem.of(case, result, "predict it again with --probabilities"))
            else:
                done += 1
            advance(1, case)
    session.screen.result(f"{done} averaged; {len(everywhere) - len(todo)} skipped, {len(problems)} failed: {output}")
    session.screen.json({"averaged": done, "skipped": len(everywhere) - len(todo), "failed": {each.case: each.what for each in problems}})
    if problems:
        raise DatasetError(f"{count(len(problems), 'problem')} with {some(sorted({each.case for each in problems}))}", problems=problems)


def _plain(wanted: str | None) -> str | None:
    """The ending that --format asks for. Raises UsageError for objects that need their series, which is not known here."""
    ending = format_ending(wanted)
    if ending in DRAWN_ENDINGS:
        raise UsageError(
            f"--format {wanted}: belongs to a DICOM series, and an ensemble of files does not know it",
            remedy="average while predicting, with `autounet predict -c 2d+3d_fullres`, or choose another format",
        )
    return ending


def _plain_ending(like: Path) -> str:
    """The ending of the label map that is there, NIfTI for DICOM objects."""
    ending = split_ending(like)[1]
    return ".nii.gz" if ending.lower() in DRAWN_ENDINGS else ending


def _cases(folder: Path) -> dict[str, Path]:
    """Case → its label map, of the cases that have probabilities beside it."""
    if not folder.is_dir():
        raise UsageError(f"-i {folder}: no such folder", expected="a folder made by `autounet predict --probabilities`")
    there = {split_ending(file)[0]: file for file in image_files(folder)}
    found = {case: file for case, file in there.items() if (folder / f"{case}.npz").is_file()}
    if not found:
        raise UsageError(
            f"-i {folder}: no probabilities in it", expected="<case>.npz beside label maps, as `autounet predict --probabilities` writes"
        )
    return found


def _average(case: str, folders: Sequence[Path], like: Path, output: Path, labels: LabelSpec, meaning: Meaning) -> None:
    averaged, grid = average_labels([folder / f"{case}.npz" for folder in folders], labels), read_size(like)[1]
    if averaged.shape != grid.shape_zyx:
        raise ImageError(
            f"{case}: the probabilities are on another grid than the label map beside them", found=averaged.shape, expected=grid.shape_zyx
        )
    write_labels(output, averaged, grid, like=like, meaning=meaning)
