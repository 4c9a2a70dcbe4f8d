"""``autounet dataset``: a dataset.json for files that stay where they are, further cases, and what a dataset has."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from autounet.artefact import readable_json, write_text_atomic
from autounet.cli.folding import describe_splits, planned_splits
from autounet.cli.locks import one_at_a_time
from autounet.cli.rasterising import check_drawing, drawn_labels, is_drawn, label_map_of
from autounet.cli.session import Session, lock_cleared
from autounet.cli.stages import some
from autounet.dataset import DatasetSpec, name_problems, read_dataset
from autounet.dataset_globs import Patterns, channel_name, match_cases
from autounet.dataset_json import alike_patients, channels_and_labels, load_description
from autounet.dataset_search import absolute
from autounet.dataset_table import TABLE_ENDINGS, TableCase, read_table
from autounet.dataset_writing import description, extended, path_text
from autounet.errors import AutounetError, DatasetError, Problem, UsageError
from autounet.images import read_labels
from autounet.parallel import map_ordered
from autounet.planners.words import count

MOST_ROWS = 40
"""Cases that are shown."""

LOCK = ".autounet-adding.lock"
"""In a dataset's folder, while a command adds cases."""

SPECIAL = ("CT", "rgb_to_0_1", "rescale_to_0_1", "noNorm")
"""Names of channels that choose a normalisation."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the files of cases are: patterns, or a table."""

    images: Sequence[str]
    labels: str | None
    table: Path | None
    id: str | None
    patient: str | None

    def check(self) -> None:
        """Raises UsageError unless exactly one of the two is given."""
        if (self.table is None) == (not self.images and self.labels is None):
            raise UsageError("cases from patterns or from a table", remedy="give --images and --labels (in quotes), or --table FILE")
        if self.table is None and (not self.images or self.labels is None):
            what = "--labels without --images" if not self.images else "--images without --labels"
            raise UsageError(what, remedy="give both, each in quotes: images one pattern per channel")
        if self.table is not None and (self.id is not None or self.patient is not None):
            flag = "--id" if self.id is not None else "--patient"
            raise UsageError(f"{flag} with --table: nothing would be filled in", remedy="use the columns 'id' and 'patient'")
        if self.table is not None and self.table.suffix.lower() not in TABLE_ENDINGS:
            raise UsageError(f"--table {self.table}: not a table", expected=f"one of {' '.join(TABLE_ENDINGS)}")

    def cases(self, channels: Sequence[str]) -> list[TableCase]:
        """The cases. Raises UsageError or DatasetError."""
        self.check()
        if self.table is not None:
            return read_table(self.table, channels)
        assert self.labels is not None
        return match_cases(Patterns(tuple(self.images), self.labels, self.id, self.patient))


@dataclass(frozen=True, slots=True)
class Names:
    """What the command line says about channels and classes."""

    channels: Sequence[str]
    classes: Sequence[str]
    """Names for the values 1, 2, …"""
    values: str | None
    """``background=0,liver=1``."""

    def labels(self) -> dict[str, int | list[int]]:
        """Name → value, the background first; empty where nothing is said. Raises UsageError."""
        if self.classes and self.values is not None:
            raise UsageError("--class and --classes", remedy="give one of them")
        if self.values is None:
            return {"background": 0, **{name: number for number, name in enumerate(self.classes, 1)}} if self.classes else {}
        found: dict[str, int | list[int]] = {}
        for part in self.values.split(","):
            name, sign, value = (text.strip() for text in part.rpartition("="))
            if not (sign and name and value.isascii() and value.isdecimal()) or "=" in name or name in found:
                raise UsageError(
                    f"--classes {self.values}: malformed at '{part.strip()}'", expected="such as background=0,liver=1,tumour=2"
                )
            found[name] = int(value)
        return found if 0 in found.values() else {"background": 0, **found}


def run_create(session: Session, folder: Path, sources: Sources, names: Names, dry_run: bool, overwrite: bool) -> None:
    """Writes a dataset.json, and nothing else but label maps of DICOM SEG and RTSTRUCT; with ``dry_run`` shows what it would say."""
    sources.check()
    root, labels = absolute(folder.expanduser()), names.labels()
    path = root / "dataset.json"
    if path.exists() and not overwrite and not dry_run:
        raise UsageError(f"{path}: is there already", remedy="add cases to it with `autounet dataset add`, or replace it with --overwrite")
    cases = sources.cases(names.channels)
    channels = _channels(session, sources, names, cases)
    _check_cases(cases, len(channels))
    drawn = [case for case in cases if case.label is not None and is_drawn(case.label)]
    if drawn and not labels:
        raise UsageError(
            f"{count(len(drawn), 'label map')} of DICOM segments or contours, such as {drawn[0].label}",
            remedy="name the structures with --class or --classes, as the files name them",
        )
    if not labels:
        labels = _labels_found(session, cases)
    _tell_alike(session, (case.patient for case in cases))
    check_drawing(root, drawn, labels, overwrite or dry_run)
    content = description(root, channels, labels, cases, _places(root, drawn))
    channels_and_labels(content, path)  # raises for names and values that contradict each other
    if dry_run:
        _show_cases(session, root, cases, f"{root.name}: {count(len(cases), 'case')} (not written)")
    else:
        with drawn_labels(session, root, drawn, labels):
            _write(path, content)
        told = [
            f"{count(len(cases), 'case')}",
            f"channels {', '.join(channels)}",
            f"classes {some([name for name in labels if labels[name] != 0])}",
        ]
        session.screen.result(f"{path}: {'; '.join(told)}. Files stay where they are. Next: autounet plan -d {folder}")
    session.screen.json(content)


def run_add(session: Session, query: str, sources: Sources, dry_run: bool) -> None:
    """Adds cases to a dataset.json; all others stay as they are, and so do their folds and what is prepared of them."""
    sources.check()
    root = session.dataset_folder(query)
    if dry_run:
        _add(session, query, root, sources, dry_run)
        return

    def wait(holder: str) -> None:
        session.screen.say(f"waiting for another autounet command that adds cases to {root}: {holder}")

    with one_at_a_time(root / LOCK, wait, lock_cleared(session)):  # else of two that read before either writes, one loses its cases
        _add(session, query, root, sources, dry_run)


def _add(session: Session, query: str, root: Path, sources: Sources, dry_run: bool) -> None:
    """As ``run_add``, while nobody else writes this dataset.json."""
    dataset = read_dataset(root)
    path = dataset.root / "dataset.json"
    raw = load_description(path)
    cases = sources.cases(dataset.channels)
    _check_cases(cases, len(dataset.channels))
    _check_new(dataset, cases)
    drawn = [case for case in cases if case.label is not None and is_drawn(case.label)]
    if drawn and dataset.labels.overlapping:
        raise UsageError(f"{drawn[0].label}: DICOM structures for a dataset of overlapping regions", remedy="make label maps of them first")
    _tell_alike(session, [*dataset.patients.values(), *(case.patient for case in cases)])
    labels = {entry.name: entry.values[0] for entry in dataset.labels.classes}
    check_drawing(dataset.root, drawn, labels, overwrite=True if dry_run else None)
    content = extended(raw, dataset, cases, _places(dataset.root, drawn))
    if dry_run:
        _show_cases(session, dataset.root, cases, f"{dataset.name}: {count(len(cases), 'case')} more (not written)")
        return
    with drawn_labels(session, dataset.root, drawn, labels):
        now = _write(path, content)
    if not (raw.get("training") or raw.get("dataset")):
        session.screen.warn(f"{path} lists the cases from now on: files that are put into imagesTr later are not found by themselves")
    session.screen.result(f"{path}: {count(len(cases), 'case')} more, {len(now.cases)} now: {some([case.id for case in cases])}")
    if session.layout(now.name).plan.exists():
        session.screen.result(
            f"What is prepared and trained stays. Next: autounet plan -d {query} tells whether the plan would change; "
            "autounet train scores new held-out cases, with --overwrite it learns from the new ones"
        )


def run_show(session: Session, query: str) -> None:
    """What a dataset has: channels, classes, cases with their files, patients and folds."""
    dataset = read_dataset(session.dataset_folder(query))
    labels = [f"{entry.name} ({', '.join(map(str, entry.values))})" for entry in dataset.labels.classes]
    patients = Counter(dataset.patients.values())
    rows = [("folder", str(dataset.root)), ("channels", ", ".join(dataset.channels)), ("classes", ", ".join(labels))]
    if dataset.labels.ignore_value is not None:
        rows.append(("voxels to ignore", str(dataset.labels.ignore_value)))
    _tell_alike(session, patients)
    alone = len(dataset.cases) - sum(patients.values())
    if patients:
        rest = f"; {count(alone, 'case')} of which nobody said" if alone else ""
        rows.append(("patients", f"{len(patients)}, with {min(patients.values())} to {max(patients.values())} cases{rest}"))
    partial = [case.id for case in dataset.cases if case.annotated is not None]
    rows += [("annotated in part", some(partial))] if partial else []
    try:
        rows.append(("folds", describe_splits(planned_splits(dataset, session.layout(dataset.name)))))
    except AutounetError as error:
        rows.append(("folds", f"none: {error.what}"))
    session.screen.table(f"{dataset.name}: {count(len(dataset.cases), 'case')}", ("", "what it is"), rows)
    shown = [TableCase("", case.id, case.images, case.label, case.patient, case.fold, case.annotated) for case in dataset.cases]
    _show_cases(session, dataset.root, shown, "Cases")
    session.screen.json(
        {
            "name": dataset.name,
            "root": str(dataset.root),
            "channels": list(dataset.channels),
            "labels": {entry.name: list(entry.values) for entry in dataset.labels.classes},
            "cases": [case.model_dump(mode="json") for case in dataset.cases],
        }
    )


def _tell_alike(session: Session, patients: Iterable[str | None]) -> None:
    """Warns of patients that may be one, written in two ways: one of them would be held out while the model learns from the other."""
    for one, other in alike_patients(name for name in patients if name is not None):
        session.screen.warn(f"patients '{one}' and '{other}' count as two, in folds too: give them one spelling if they are one")


def _write(path: Path, content: Mapping[str, Any]) -> DatasetSpec:
    """Writes a dataset.json and reads it; what cannot be read is not left there. Raises DatasetError."""
    before = path.read_text(encoding="utf-8-sig") if path.exists() else None
    write_text_atomic(path, readable_json(dict(content)) + "\n")
    try:
        return read_dataset(path.parent)
    except AutounetError:
        if before is None:
            path.unlink(missing_ok=True)
        else:
            write_text_atomic(path, before)
        raise


def _channels(session: Session, sources: Sources, names: Names, cases: Sequence[TableCase]) -> list[str]:
    """Names of the channels: those given, else what the patterns' file names say."""
    if names.channels:
        if len(sources.images) not in (0, 1, len(names.channels)):
            raise UsageError(f"{len(names.channels)} × --channel for {len(sources.images)} × --images", remedy="name each channel")
        return list(names.channels)
    files = max(len(case.images) for case in cases)
    found = [channel_name(pattern, number) for number, pattern in enumerate(sources.images)]
    found = found if len(set(found)) == files else [f"channel_{number}" for number in range(files)]
    special = [name for name in found if name in SPECIAL]
    session.screen.say(
        f"channels are named {', '.join(found)}, which --channel changes: the name chooses the normalisation"
        + (f" ({', '.join(special)} {'is' if len(special) == 1 else 'are'} special)" if special else " ('CT' is special)")
    )
    return found


def _check_cases(cases: Sequence[TableCase], channels: int) -> None:
    problems = [problem for case in cases for problem in name_problems(case.id)]
    problems += [
        Problem(case.where, f"{count(len(case.images), 'image')}, but {count(channels, 'channel')}", "name an image for each channel")
        for case in cases
        if len(case.images) not in (1, channels)
    ]
    problems += [
        Problem(case.where, f"label map {case.label.name} is a JPEG, whose compression changes values", "save it as PNG")
        for case in cases
        if case.label is not None and case.label.suffix.lower() in (".jpg", ".jpeg")
    ]
    if problems:
        raise DatasetError(f"{count(len(problems), 'problem')} with the cases", problems=problems)


def _check_new(dataset: DatasetSpec, cases: Sequence[TableCase]) -> None:
    """Raises DatasetError where a new case is there already, by its name or its files."""
    ids = {case.id.casefold(): case.id for case in dataset.cases}
    files = {file.resolve(): case.id for case in dataset.cases for file in (*case.images, case.label)}
    problems = []
    for case in cases:
        if case.id.casefold() in ids:
            problems.append(
                Problem(case.where, f"the dataset has a case '{ids[case.id.casefold()]}'", "give it another id, or leave it out")
            )
        used = [file for file in (*case.images, case.label) if file is not None and file.resolve() in files]
        problems += [Problem(case.where, f"{file.name} belongs to case '{files[file.resolve()]}'", "leave it out") for file in used]
    if problems:
        raise DatasetError(f"{dataset.name}: {count(len(problems), 'problem')} with the new cases; nothing was added", problems=problems)


def _labels_found(session: Session, cases: Sequence[TableCase]) -> dict[str, int | list[int]]:
    """``label_1`` and so on for the values that the label maps hold. Raises DatasetError."""

    def values_of(case: TableCase) -> set[int]:
        assert case.label is not None
        return {int(value) for value in np.unique(read_labels(case.label)[0])}

    found, problems = set[int](), list[Problem]()
    with session.runtime.progress("Reading label maps", len(cases)) as advance:
        for case, result in map_ordered(values_of, cases, session.runtime.workers):
            if isinstance(result, AutounetError):
                problems.append(Problem.of(case.id, result, "replace the label map"))
            else:
                found |= result
            advance(1, case.id)
    values = sorted(found - {0})
    if not values and not problems:
        problems = [Problem("all cases", "label maps hold nothing but 0", "check that --labels finds the label maps")]
    if problems:
        raise DatasetError(f"{count(len(problems), 'label map')} cannot be used", problems=problems)
    session.screen.warn(
        f"classes are named by the values in the label maps ({some([f'label_{v}' for v in values])}): name them in dataset.json"
    )
    return {"background": 0, **{f"label_{value}": value for value in values}}


def _places(root: Path, drawn: Sequence[TableCase]) -> Mapping[str, Path]:
    """Where label maps of segments and contours go."""
    return {case.id: label_map_of(root, case) for case in drawn}


def _show_cases(session: Session, root: Path, cases: Sequence[TableCase], title: str) -> None:
    rows = [
        (
            case.id,
            "\n".join(path_text(image, root) for image in case.images),
            "" if case.label is None else path_text(case.label, root),
            case.patient or "",
            "" if case.fold is None else str(case.fold),
            "all" if case.annotated is None else ", ".join(case.annotated),
        )
        for case in cases[:MOST_ROWS]
    ]
    columns = ("case", "images", "label map", "patient", "fold", "annotated")
    kept = [number for number in range(6) if number < 3 or any(row[number] not in ("", "all") for row in rows)]
    session.screen.table(title, tuple(columns[number] for number in kept), [tuple(row[number] for number in kept) for row in rows])
    if len(cases) > MOST_ROWS:
        session.screen.result(f"and {len(cases) - MOST_ROWS} more")
