"""The folds of a run folder: those on disk, those that the dataset or the user wants, and what becomes of them when cases are added."""

from collections.abc import Sequence
from pathlib import Path

from autounet.artefact import digest_of
from autounet.checkpoint import read_about
from autounet.cli.session import Session
from autounet.dataset import DatasetSpec
from autounet.errors import ArtefactError, UsageError
from autounet.folds import (
    carried_over,
    check_folds,
    folds_of_rows,
    is_by_rule,
    leaks_of,
    named,
    read_folds,
    remarks_on,
    separated,
    standard_folds,
)  # fmt: skip
from autounet.layout import RunLayout
from autounet.planners.words import count
from autounet.splits import Split, Splits, in_words, split_names

REMEDY = "correct it, give folds with `autounet plan --splits`, or delete it to get the standard five folds"


def load_splits(session: Session, dataset: DatasetSpec, layout: RunLayout) -> Splits:
    """The folds as they are to be now, saved where that is not what is on disk; what is replaced is kept beside it.

    Raises:
        DatasetError: There are too few cases or patients.
        ArtefactError: The folds on disk name other cases than the dataset has, or no training or validation cases.
    """
    now = planned_splits(dataset, layout)
    there = Splits.load(layout.splits) if layout.splits.exists() else None
    if there is None or there.digest() != now.digest():
        if there is not None and there.folds != now.folds:
            _tell_change(session, there, now, keep_beside(layout.splits))
        now.save(layout.splits)
        _tell_remarks(session, dataset, now)
    return now


def planned_splits(dataset: DatasetSpec, layout: RunLayout) -> Splits:
    """What ``load_splits`` gives; nothing is written.

    Folds that are of other cases are replaced by the rule's, unless something was trained with them or a person made them: then they go
    on with the cases that stayed, and new cases are dealt to them.

    Raises:
        As ``load_splits``.
    """
    ids = [case.id for case in dataset.cases]
    made_from = _source(dataset)
    if not layout.splits.exists():
        return _made(dataset)
    try:
        there = Splits.load(layout.splits)
    except ArtefactError as error:
        raise ArtefactError(error.what, found=error.found, expected=error.expected, remedy=REMEDY) from None
    if there.made_from == made_from:
        _check(there, ids, layout)
        return there
    if there.made_by != "you" and dataset.held_out:
        return _made(dataset)
    by_hand = there.made_by in ("you", "grown") or (there.made_by == "rule" and not is_by_rule(there.folds, dataset.patients))
    if by_hand or (there.made_by == "rule" and folds_begun(layout)):
        folds = carried_over(there.folds, ids, dataset.patients)
        if folds is not None and (there.made_by == "you" or not separated(folds, dataset.patients)):
            made_by = there.made_by if there.made_by != "rule" else "you" if not is_by_rule(there.folds, dataset.patients) else "grown"
            return Splits(made_from=made_from, made_by=made_by, origin=there.origin, folds=folds)
    return _made(dataset)


def use_splits(session: Session, dataset: DatasetSpec, layout: RunLayout, path: Path, overwrite: bool) -> Splits:
    """Takes the folds of a file for those of the run folder; the folds before are kept beside them.

    Raises:
        ArtefactError: The file holds no folds of this dataset.
        UsageError: Folds were trained with other cases, and ``overwrite`` does not give them up.
    """
    ids, folds = [case.id for case in dataset.cases], read_folds(path)
    check_folds(folds, ids, path)
    now = Splits(made_from=_source(dataset), made_by="you", origin=path.name, folds=folds)
    try:
        there = Splits.load(layout.splits)
    except ArtefactError:
        there = None
    if there is not None and there.folds == now.folds:
        session.screen.say(f"--splits {path}: {count(len(folds), 'fold')}, as they are in {layout.splits} already")
    else:
        before = {} if there is None else dict(zip(there.names, there.folds, strict=True))
        after = dict(zip(now.names, folds, strict=True))
        other = [name for name in folds_begun(layout) if name[1] != "all" and before.get(name[1]) != after.get(name[1])]
        if other and not overwrite:
            raise UsageError(
                f"--splits {path}: folds are trained, or begun, with other cases",
                found=named([f"{configuration} fold {fold}" for configuration, fold in other]),
                remedy="use another folder with --runs, or give them up with --overwrite and train again",
            )
        kept = f"; the folds before are kept in {keep_beside(layout.splits)}" if layout.splits.exists() else ""
        session.screen.say(f"{count(len(folds), 'fold')} of {path}{kept}")
    now.save(layout.splits)
    _tell_remarks(session, dataset, now)
    tell_leaks(session, dataset, now.folds)
    return now


def tell_leaks(session: Session, dataset: DatasetSpec, folds: Sequence[Split]) -> None:
    """Warns of patients in both halves of a fold, which only folds that somebody made can have."""
    for words in leaks_of(folds, dataset.patients):
        session.screen.warn(f"folds: {words}")


def read_splits(dataset: DatasetSpec, layout: RunLayout) -> Splits:
    """The folds on disk, as they are; nothing is written.

    Raises:
        ArtefactError: There are none, or they are of other cases than the dataset has now.
    """
    splits, ids = Splits.load(layout.splits), [case.id for case in dataset.cases]
    if splits.made_from.get("cases") != _source(dataset)["cases"]:
        used = {case for fold in splits.folds for case in (*fold.train, *fold.validation)}
        new, gone = sorted(set(ids) - used), sorted(used - set(ids))
        raise ArtefactError(
            f"{layout.splits}: the dataset's cases have changed since these folds were made",
            found="; ".join(f"{word} {named(cases)}" for word, cases in (("new", new), ("gone", gone)) if cases) or "other cases",
            remedy="run `autounet train` for the trained folds again, which scores new held-out cases; or put the cases back as they were",
        )
    _check(splits, ids, layout)
    return splits


def cases_of_fold(session: Session, dataset: DatasetSpec, layout: RunLayout, fold: str) -> Split:
    """Training and validation cases of ``"0"``.., or of ``"all"``."""
    if fold == "all":
        return Split(train=tuple(case.id for case in dataset.cases), validation=())
    return load_splits(session, dataset, layout).folds[int(fold)]


def as_begun(session: Session, layout: RunLayout, configuration: str, fold: str, split: Split) -> Split:
    """The cases of a fold whose training goes on: those it began with, if what it holds out now is not among them.

    Else cases that were added meanwhile would make the checkpoint worthless.
    """
    folder = layout.fold(configuration, fold)
    begun = None if folder.weights.exists() or not folder.resume.exists() else folder.training_cases()
    if begun is None or set(begun) == set(split.train) or not set(begun) < set(split.train):
        return split
    new = [case for case in split.train if case not in set(begun)]
    session.screen.warn(
        f"{folder.root}: goes on without {count(len(new), 'case')} added since it began ({named(new)}); --overwrite begins anew"
    )
    return Split(train=tuple(case for case in split.train if case in set(begun)), validation=split.validation)


def parse_folds(text: str, allowed: Sequence[str]) -> list[str]:
    """``0``, ``0,2,4`` or ``all`` → folds, without repetition, each one of these or ``all``. Raises UsageError."""
    folds = split_names(text)
    wrong = [fold for fold in folds if fold not in (*allowed, "all")]
    if wrong or not folds:
        raise UsageError(f"-f {text}: no such fold", found=", ".join(wrong) or "nothing", expected=f"{', '.join(allowed)} or all")
    return folds


def folds_begun(layout: RunLayout) -> list[tuple[str, str]]:
    """Configuration and fold of all that is trained or begun."""
    files = [*layout.models.glob("*/fold_*/resume.pt"), *layout.models.glob("*/fold_*/weights.safetensors")]
    return sorted({(path.parent.parent.name, path.parent.name.removeprefix("fold_")) for path in files})


def trained_cases(layout: RunLayout, configuration: str, fold: str) -> tuple[str, ...] | None:
    """The cases that finished weights have learnt from, sorted; None where that is not known any more. Raises ArtefactError."""
    folder = layout.fold(configuration, fold)
    cases = folder.training_cases()
    return cases if cases is not None and digest_of(list(cases)) == read_about(folder.weights).get("cases") else None


def keep_beside(splits: Path) -> Path:
    """Copies folds that are about to be replaced: people may have made them by hand. Gives the name of the copy."""
    number = 1
    while (kept := splits.with_suffix(f".before{'' if number == 1 else f'-{number}'}.json")).exists():
        number += 1
    try:
        kept.write_bytes(splits.read_bytes())
    except OSError as error:
        raise ArtefactError(f"{kept}: cannot be written", found=error.strerror or error) from None
    return kept


def describe_splits(splits: Splits) -> str:
    """How many folds and whose, in words."""
    words = {
        "rule": "the standard ones",
        "grown": "the standard ones, with cases that were added later",
        "dataset": "as dataset.json says",
        "you": f"yours{f', of {splits.origin}' if splits.origin else ''}",
    }
    held_out = sorted({len(fold.validation) for fold in splits.folds})
    sizes = " to ".join(map(str, dict.fromkeys((held_out[0], held_out[-1]))))
    return f"{count(len(splits.folds), 'fold')}, {words[splits.made_by]}; {sizes} held out in each"


def _check(splits: Splits, ids: Sequence[str], layout: RunLayout) -> None:
    """People may edit the folds; what they write must make sense. Raises ArtefactError."""
    try:
        check_folds(splits.folds, ids, layout.splits)
    except ArtefactError as error:
        raise ArtefactError(error.what, found=error.found, expected=error.expected, remedy=REMEDY) from None


def _made(dataset: DatasetSpec) -> Splits:
    """The folds that the dataset asks for, or the standard ones."""
    ids = [case.id for case in dataset.cases]
    if dataset.held_out:
        folds = folds_of_rows(ids, dataset.held_out)
        check_folds(folds, ids, dataset.root / "dataset.json")
        return Splits(made_from=_source(dataset), made_by="dataset", folds=folds)
    return Splits(made_from=_source(dataset), folds=standard_folds(ids, dataset.patients))


def _source(dataset: DatasetSpec) -> dict[str, str]:
    return Splits.source([case.id for case in dataset.cases], dataset.patients, dataset.held_out)


def _tell_change(session: Session, before: Splits, now: Splits, kept: Path) -> None:
    old = {case for fold in before.folds for case in (*fold.train, *fold.validation)}
    stayed = [
        {case for case in a.validation if case in old} <= set(b.validation) and not set(a.train) & set(b.validation)
        for a, b in zip(now.folds, before.folds, strict=False)
    ]
    if len(now.folds) != len(before.folds) or not all(stayed):
        session.screen.warn(f"the dataset's cases have changed: new folds; the old ones are kept in {kept}. Train all folds again.")
        return
    dealt = [(name, [case for case in fold.validation if case not in old]) for name, fold in zip(now.names, now.folds, strict=True)]
    there = {case for fold in now.folds for case in (*fold.train, *fold.validation)}
    words = [f"new cases are held out so: {'; '.join(f'{in_words([name])} {named(cases)}' for name, cases in dealt if cases)}"]
    words = words if any(cases for _, cases in dealt) else []
    words += [f"gone: {named(sorted(old - there))}"] if old - there else []
    session.screen.warn(f"the dataset's cases have changed: {'; '.join(words)}. All others stay in their folds; the folds before: {kept}")


def _tell_remarks(session: Session, dataset: DatasetSpec, splits: Splits) -> None:
    if splits.made_by not in ("rule", "grown"):
        for words in remarks_on(splits.folds, [case.id for case in dataset.cases]):
            session.screen.warn(f"folds: {words}")
