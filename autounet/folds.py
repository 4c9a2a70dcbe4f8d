"""Rules for folds: patients stay together, folds that the user brings, and what becomes of folds when the dataset grows."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from autounet.errors import ArtefactError, DatasetError
from autounet.splits import FOLDS, Split, Splits, five_folds

SEED = 12345
"""nnU-Net's for its folds; here it orders patients that have equally many cases."""

MOST_NAMED = 5
"""Cases that a message names."""


def standard_folds(case_ids: Sequence[str], patients: Mapping[str, str]) -> tuple[Split, ...]:
    """Five folds: nnU-Net's, unless some patient has several cases; then no patient is in two folds.

    Raises:
        DatasetError: There are fewer cases, or patients, than folds.
    """
    if len(_by_patient(case_ids, patients)) == len(case_ids):
        return five_folds(case_ids)
    return grouped_folds(case_ids, patients)


def grouped_folds(case_ids: Sequence[str], patients: Mapping[str, str]) -> tuple[Split, ...]:
    """Five folds in which all cases of a patient are held out together.

    The patient with most cases first, those with equally many in a random order that is always the same, each goes to the fold that
    holds out fewest cases so far. This is the rule of scikit-learn's GroupKFold but for the order among equals.

    Args:
        case_ids: All cases.
        patients: Case → patient; a case that is not named is a patient of its own.

    Raises:
        DatasetError: There are fewer patients than folds.
    """
    groups = _by_patient(case_ids, patients)
    if len(groups) < FOLDS:
        raise DatasetError(
            "five folds that keep patients together need at least five patients",
            found=f"{len(groups)} patient{'s' if len(groups) != 1 else ''} with {len(case_ids)} cases",
            remedy="train one model on all cases with `-f all`, or give fewer folds of your own with `autounet plan --splits`",
        )
    held_out: list[list[str]] = [[] for _ in range(FOLDS)]
    for group in _largest_first(groups):
        min(held_out, key=len).extend(group)
    return tuple(_split(case_ids, fold) for fold in held_out)


def folds_of_rows(case_ids: Sequence[str], held_out: Mapping[str, int]) -> tuple[Split, ...]:
    """The folds that dataset.json asks for: each holds out the cases of its number; a case without a number trains in every fold.

    Raises:
        DatasetError: A number in between is missing.
    """
    numbers = sorted(set(held_out.values()))
    if numbers != list(range(len(numbers))):
        raise DatasetError(
            "dataset.json: numbers of folds have gaps",
            found=", ".join(map(str, numbers)),
            expected="0, 1, 2 and so on",
            remedy="number the folds from 0 on",
        )
    return tuple(_split(case_ids, [case for case in case_ids if held_out.get(case) == number]) for number in numbers)


def carried_over(folds: Sequence[Split], case_ids: Sequence[str], patients: Mapping[str, str]) -> tuple[Split, ...] | None:
    """The same folds of a dataset to which cases were added, or from which some were taken.

    Cases that stay keep their folds. A new case goes where its patient is; other new patients, largest first, go to the fold that holds
    out fewest cases. None where a fold is left without cases to train on or to hold out.
    """
    there = set(case_ids)
    train = [[case for case in fold.train if case in there] for fold in folds]
    held_out = [[case for case in fold.validation if case in there] for fold in folds]
    known = {case for fold in folds for case in (*fold.train, *fold.validation)}
    homes = _homes(folds, patients)
    new = _by_patient([case for case in case_ids if case not in known], patients)
    waiting: dict[str, list[str]] = {}
    for patient, cases in new.items():
        home = homes.get(patient)
        if home is None:
            waiting[patient] = cases
            continue
        for number in range(len(folds)):
            (held_out if number in home else train)[number].extend(cases)
    for cases in _largest_first(waiting):
        smallest = min(range(len(folds)), key=lambda number: len(held_out[number]))
        for number in range(len(folds)):
            (held_out if number == smallest else train)[number].extend(cases)
    if not all(train) or not all(held_out):
        return None
    return tuple(Split(train=tuple(sorted(a)), validation=tuple(sorted(b))) for a, b in zip(train, held_out, strict=True))


def _homes(folds: Sequence[Split], patients: Mapping[str, str]) -> dict[str, set[int]]:
    """Patient → the folds that hold its cases out; none for a patient who only trains."""
    homes: dict[str, set[int]] = {}
    for number, fold in enumerate(folds):
        for case in fold.train:
            if case in patients:
                homes.setdefault(_key(case, patients), set())
        for case in fold.validation:
            if case in patients:
                homes.setdefault(_key(case, patients), set()).add(number)
    return homes


def is_by_rule(folds: Sequence[Split], patients: Mapping[str, str]) -> bool:
    """Whether folds are those that the rules make of their cases, with the patients or without; else somebody has edited them."""
    ids = sorted({case for fold in folds for case in (*fold.train, *fold.validation)})
    try:
        return tuple(folds) == five_folds(ids) or tuple(folds) == standard_folds(ids, patients)
    except DatasetError:
        return False


def separated(folds: Sequence[Split], patients: Mapping[str, str]) -> dict[str, list[int]]:
    """Patient → folds that train on some of its cases and hold out others."""
    found: dict[str, list[int]] = {}
    for number, fold in enumerate(folds):
        trained = {patients[case] for case in fold.train if case in patients}
        for patient in sorted(trained & {patients[case] for case in fold.validation if case in patients}):
            found.setdefault(patient, []).append(number)
    return found


def check_folds(folds: Sequence[Split], case_ids: Sequence[str], where: object) -> None:
    """Raises ArtefactError for folds that cannot be trained: other cases than the dataset has, one in both halves, an empty half."""
    if not folds:
        raise ArtefactError(f"{where}: no folds in it", expected="at least one")
    there = set(case_ids)
    for number, fold in enumerate(folds):
        unknown = sorted({*fold.train, *fold.validation} - there)
        both = sorted(set(fold.train) & set(fold.validation))
        twice = sorted(case for half in (fold.train, fold.validation) for case, times in Counter(half).items() if times > 1)
        if unknown or both or twice or not fold.train or not fold.validation:
            found = (
                f"unknown cases {named(unknown)}" if unknown
                else f"{named(both)} in training and validation" if both
                else f"{named(twice)} named twice" if twice
                else f"{len(fold.train)} training and {len(fold.validation)} validation cases"
            )  # fmt: skip
            raise ArtefactError(f"{where}: fold {number} cannot be used", found=found)


def remarks_on(folds: Sequence[Split], case_ids: Sequence[str]) -> list[str]:
    """What is allowed in folds, and worth knowing: cases that are left out, never held out, or held out more than once."""
    held_out = Counter(case for fold in folds for case in fold.validation)
    used = {case for fold in folds for case in (*fold.train, *fold.validation)}
    never = [case for case in case_ids if case in used and case not in held_out]
    often = sorted(case for case, times in held_out.items() if times > 1)
    unused = [case for case in case_ids if case not in used]
    words = [f"in no fold, neither trained nor scored: {named(unused)}"] if unused else []
    words += [f"never held out, so they are not scored: {named(never)}"] if never else []
    return words + ([f"held out by several folds; scores over all folds take the first: {named(often)}"] if often else [])


def leaks_of(folds: Sequence[Split], patients: Mapping[str, str]) -> list[str]:
    """In words, patients of whom a fold trains on some cases and holds out others."""
    found = separated(folds, patients)
    words = [
        f"patient {patient} is in both halves of fold{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}: "
        "scores will be better than for new patients"
        for patient, numbers in list(found.items())[:MOST_NAMED]
    ]
    return words + ([f"and so are {len(found) - MOST_NAMED} more patients"] if len(found) > MOST_NAMED else [])


def read_folds(path: Path) -> tuple[Split, ...]:
    """Folds from a file: nnU-Net's ``splits_final.json`` (a list of ``{"train": [...], "val": [...]}``) or a ``splits.json`` of autounet.

    Raises:
        ArtefactError: The file cannot be read or is neither.
    """
    expected = 'a list such as [{"train": ["case_1"], "val": ["case_2"]}]'
    try:
        text = path.read_text(encoding="utf-8-sig")
        raw = json.loads(text)
    except OSError as error:
        raise ArtefactError(f"{path}: cannot be read", found=error.strerror or error, remedy="check the path") from None
    except (ValueError, RecursionError) as error:
        raise ArtefactError(f"{path}: is not valid JSON", found=error, expected=expected) from None
    if isinstance(raw, dict) and raw.get("kind") == Splits.KIND:
        return Splits.from_json(text, str(path)).folds
    if not isinstance(raw, list):
        raise ArtefactError(f"{path}: is no list of folds", found=f"a JSON {type(raw).__name__}", expected=expected)
    folds = []
    for number, fold in enumerate(raw):
        train, held_out = (fold.get("train"), fold.get("val", fold.get("validation"))) if isinstance(fold, dict) else (None, None)
        if not (_are_names(train) and _are_names(held_out)):
            raise ArtefactError(f"{path}: fold {number} is malformed", found=type(fold).__name__, expected='{"train": […], "val": […]}')
        folds.append(Split(train=tuple(sorted(train)), validation=tuple(sorted(held_out))))
    return tuple(folds)


def _are_names(half: Any) -> TypeGuard[list[str]]:
    return isinstance(half, list) and all(isinstance(case, str) for case in half)


def named(cases: Sequence[str]) -> str:
    """The first few of some cases."""
    return ", ".join(cases[:MOST_NAMED]) + (f" and {len(cases) - MOST_NAMED} more" if len(cases) > MOST_NAMED else "")


def _split(case_ids: Sequence[str], held_out: Sequence[str]) -> Split:
    out = set(held_out)
    return Split(train=tuple(sorted(set(case_ids) - out)), validation=tuple(sorted(out)))


def _by_patient(case_ids: Sequence[str], patients: Mapping[str, str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for case in sorted(case_ids):
        groups.setdefault(_key(case, patients), []).append(case)
    return groups


def _key(case: str, patients: Mapping[str, str]) -> str:
    """Of a patient, or of a case that stands alone: no two of them are equal."""
    return f"patient {patients[case]}" if case in patients else f"case {case}"


def _largest_first(groups: Mapping[str, list[str]]) -> list[list[str]]:
    keys = sorted(groups)
    np.random.RandomState(SEED).shuffle(keys)
    return [groups[key] for key in sorted(keys, key=lambda key: -len(groups[key]))]
