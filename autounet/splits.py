"""The folds of the cross-validation: which cases train and which are held out."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import numpy as np

from autounet.artefact import Artefact, Frozen, digest_of
from autounet.errors import DatasetError

FOLDS = 5
"""So many there are where nobody says otherwise."""


def split_names(text: str) -> list[str]:
    """``0,2`` or ``all`` of a command line → names of folds, without repetition; empty where there is none."""
    return list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def in_words(folds: Sequence[str]) -> str:
    """``fold 0``, ``folds 0, 2``."""
    return f"fold{'s' if len(folds) > 1 else ''} {', '.join(folds)}"


class Split(Frozen):
    """Cases of one fold."""

    train: tuple[str, ...]
    validation: tuple[str, ...]


class Splits(Artefact):
    """Training and validation cases of every fold."""

    KIND: ClassVar[str] = "splits"
    VERSION: ClassVar[int] = 1

    kind: str = KIND
    schema_version: int = VERSION
    made_by: Literal["rule", "grown", "dataset", "you"] = "rule"
    """``rule``: the standard folds. ``grown``: those, to which cases were added later. ``dataset``: dataset.json says in which fold a
    case is held out. ``you``: a file of folds that the user gave."""
    origin: str = ""
    """Name of that file."""
    folds: tuple[Split, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """``0``, ``1``, … as ``-f`` and folders have them."""
        return tuple(map(str, range(len(self.folds))))

    @staticmethod
    def source(
        case_ids: Sequence[str], patients: Mapping[str, str] | None = None, held_out: Mapping[str, int] | None = None
    ) -> dict[str, str]:
        """What folds of these cases, in the dataset's order, are made from: equal for the same cases, patients and wanted folds alone.

        Args:
            case_ids: All cases.
            patients: Case → patient, where that is known.
            held_out: Case → fold, where dataset.json says it.
        """
        stated = {"patients": dict(patients or {}), "held_out": dict(held_out or {})}
        return {"cases": digest_of(list(case_ids)), **{name: digest_of(value) for name, value in stated.items() if value}}


def five_folds(case_ids: Sequence[str]) -> tuple[Split, ...]:
    """nnU-Net's five folds: ``KFold(5, shuffle=True, random_state=12345)`` of scikit-learn over the sorted identifiers.

    Source: nnunetv2 2.8.1, ``utilities/crossval_split.py``.

    Raises:
        DatasetError: There are fewer cases than folds.
    """
    ids = np.sort(np.array(list(case_ids)))
    if len(ids) < FOLDS:
        raise DatasetError(
            "five-fold cross-validation needs at least five training cases",
            found=f"{len(ids)} case{'s' if len(ids) != 1 else ''}",
            remedy="train one model on all cases with `-f all`, add cases, or give folds of your own with `autounet plan --splits`",
        )
    order = np.arange(len(ids))
    # scikit-learn's KFold shuffles with this legacy generator; any other gives other folds.
    np.random.RandomState(12345).shuffle(order)
    return tuple(
        Split(train=tuple(ids[np.sort(np.setdiff1d(order, held_out))].tolist()), validation=tuple(ids[np.sort(held_out)].tolist()))
        for held_out in np.array_split(order, FOLDS)
    )
