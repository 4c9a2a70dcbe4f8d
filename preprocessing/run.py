"""Prepare all cases of a dataset for one configuration; what is there and fresh is kept."""

import logging
from collections.abc import Sequence
from pathlib import Path

import torch

from autounet.artefact import digest_of, remove_leftovers
from autounet.dataset import Case, DatasetSpec
from autounet.errors import ArtefactError, AutounetError, DatasetError, ImageError, Problem
from autounet.images import check_finite, read_channels, read_labels
from autounet.parallel import map_ordered
from autounet.plan import Configuration, Plan
from autounet.preprocessing.border import border_weights, check_loss, needs_border
from autounet.preprocessing.case import prepare_case
from autounet.preprocessing.store import SourceFile, Store, StoredCase
from autounet.runtime import Runtime

log = logging.getLogger(__name__)


def recipe_of(plan: Plan, configuration: Configuration) -> str:
    """Digest of everything in the plan that decides the prepared arrays."""
    parts: dict[str, object] = {
        "transpose": plan.transpose,
        "labels": plan.labels.model_dump(mode="json"),
        "ndim": configuration.ndim,
        "spacing": configuration.spacing_mm,
        "normalization": [scheme.model_dump(mode="json") for scheme in configuration.normalization],
    }
    if needs_border(plan.loss):
        parts["border"] = [plan.loss.objects, plan.loss.border_weight, plan.loss.border_sigma_px]
    return digest_of(parts)


def prepare_dataset(dataset: DatasetSpec, plan: Plan, configuration: Configuration, folder: Path, runtime: Runtime) -> list[StoredCase]:
    """Prepares every case that is missing, half-written or stale, and returns all, in the dataset's order.

    One process at a time: what a killed one left half-written is removed.

    Raises:
        UsageError: The plan's loss does not fit its labels.
        DatasetError: Cases failed; the others are prepared, and ``problems`` has every failure.
        ArtefactError: The store cannot be written to; no further case is tried.
    """
    check_loss(plan.loss, plan.labels)
    store = Store(folder, recipe_of(plan, configuration))
    remove_leftovers(folder)
    found = {case.id: _find(case, store) for case in dataset.cases}
    todo = [case for case in dataset.cases if found[case.id] is None]
    stale = sum(store.files(case.id)[3].exists() for case in todo)
    if stale:
        log.warning("%s: %d prepared cases are stale (the plan or the raw files changed) and are made again", folder.name, stale)
    problems: list[Problem] = []
    with runtime.progress(f"prepare {configuration.name}", len(todo)) as advance, _one_thread(bool(runtime.workers)):
        for case, result in map_ordered(lambda case: _prepare(case, store, plan, configuration), todo, runtime.workers):
            if isinstance(result, ArtefactError):
                raise result
            if isinstance(result, AutounetError):
                problems.append(Problem.of(case.id, result, "correct the case or remove it from the dataset"))
            else:
                found[case.id] = result
            advance(1, case.id)
    if problems:
        raise DatasetError(f"{dataset.name}: {len(problems)} of {len(dataset.cases)} cases could not be prepared", problems=problems)
    return [stored for stored in found.values() if stored is not None]


def open_cases(plan: Plan, configuration: Configuration, folder: Path, cases: Sequence[str]) -> tuple[Store, list[StoredCase]]:
    """The store and the descriptions of these cases.

    Raises:
        ImageError: A case is not prepared or stale.
    """
    store = Store(folder, recipe_of(plan, configuration))
    stored = [store.find(case) for case in cases]
    missing = [case for case, entry in zip(cases, stored, strict=True) if entry is None]
    if missing:
        raise ImageError(
            f"{folder}: {len(missing)} cases are not prepared", found=", ".join(missing[:5]), remedy="run `autounet preprocess`"
        )
    return store, [entry for entry in stored if entry is not None]


def _find(case: Case, store: Store) -> StoredCase | None:
    try:
        return store.find(case.id, _sources(case))
    except ImageError:
        return None  # preparing it will say the same, together with what is wrong with other cases


def _prepare(case: Case, store: Store, plan: Plan, configuration: Configuration) -> StoredCase:
    sources = _sources(case)
    image, grid = read_channels(case.images, len(plan.channels))
    check_finite(image, case.id)
    values, label_grid = read_labels(case.label)
    different = grid.differences(label_grid)
    if different:
        raise ImageError(f"{case.id}: image and label map differ in {'; '.join(different)}")
    prepared = prepare_case(image, grid, plan, configuration, plan.labels.encode(values, case.id), case.id, reuse_image=True)
    assert prepared.labels_zyx is not None
    patch = configuration.patch_size if configuration.ndim == 3 else (1, *configuration.patch_size)
    z, y, x = patch
    border = border_weights(prepared.labels_zyx, plan.loss) if needs_border(plan.loss) else None
    return store.write(case.id, prepared.image_czyx, prepared.labels_zyx, prepared.trace, plan.labels, sources, (z, y, x), border)


def _sources(case: Case) -> tuple[SourceFile, ...]:
    try:
        return tuple(SourceFile.of(path) for path in (*case.images, case.label))
    except OSError as error:
        raise ImageError(f"{case.id}: {error.filename} has vanished", remedy="restore the file or remove the case") from None


class _one_thread:
    """Cases run in parallel, so each uses one torch thread; with no workers a case may use them all."""

    def __init__(self, on: bool) -> None:
        self.on, self.before = on, torch.get_num_threads()

    def __enter__(self) -> None:
        if self.on:
            torch.set_num_threads(1)

    def __exit__(self, *error: object) -> None:
        torch.set_num_threads(self.before)
