"""Prepare all cases of a dataset; what is there and fresh is kept."""

import logging
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from types import TracebackType
from typing import Self

from autounet.artefact import digest_of, free_bytes, in_bytes, remove_leftovers
from autounet.dataset import Case, DatasetSpec
from autounet.errors import ArtefactError, AutounetError, DatasetError, ImageError, Problem
from autounet.image_names import work_of
from autounet.images import check_finite, read_channels, read_labels, read_size
from autounet.labels import LabelSpec
from autounet.memory import OutOfMemory, available_bytes, memory_of
from autounet.parallel import map_within
from autounet.plan import Configuration, Plan
from autounet.preprocessing.border import border_weights, check_loss, needs_border
from autounet.preprocessing.case import prepare_case, prepared_shape
from autounet.preprocessing.previous import read_previous
from autounet.preprocessing.store import SourceFile, Store, StoredCase
from autounet.runtime import Runtime

log = logging.getLogger(__name__)

PREPARING_SHARE = 0.7
"""Of the memory that is available, what cases under way may take together."""
LEAST_SHARE = 0.05
"""Of what prepared cases take uncompressed: less is never enough. Images of counts that lie on the network's grid come to a quarter."""


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
    if configuration.previous_stage is not None:
        parts["previous"] = configuration.previous_stage
    return digest_of(parts)


def prepare_dataset(
    dataset: DatasetSpec, plan: Plan, folders: Mapping[str, Path], runtime: Runtime, previous: Mapping[str, Path] | None = None
) -> dict[str, list[StoredCase]]:
    """Prepares every case that is missing, half-written or stale, and returns all, in the dataset's order.

    A case is read once for all configurations. One process at a time: what a killed one left half-written is removed.

    Args:
        dataset: With the cases.
        plan: How they are prepared.
        folders: Where, by the names of the plan's configurations.
        runtime: Workers and progress.
        previous: For the second stage of a cascade, by case, the label map that the first stage has predicted for it. A case is made
            again when this file has changed.

    Raises:
        UsageError: The plan's loss does not fit its labels.
        DatasetError: Cases failed; the others are prepared, and ``problems`` has every failure.
        ArtefactError: A store cannot be written to; no further case is tried.
    """
    check_loss(plan.loss, plan.labels)
    chosen = [(plan.configurations[name], folder) for name, folder in folders.items()]
    targets = [
        _Target(entry, Store(folder, recipe_of(plan, entry)), None if entry.previous_stage is None else previous or {})
        for entry, folder in chosen
    ]
    for target in targets:
        remove_leftovers(target.store.root)
    _check_room(plan, chosen, folders, len(dataset.cases))
    found = {case.id: [_find(case, target, plan.labels) for target in targets] for case in dataset.cases}
    for number, target in enumerate(targets):
        stale = sum(stored[number] is None and target.store.files(case)[-1].exists() for case, stored in found.items())
        if stale:
            name = target.configuration.name
            what = "case is made again: it is" if stale == 1 else "cases are made again: they are"
            log.warning("%s: %d prepared %s damaged, or the plan, %s or what is annotated have changed", name, stale, what, target.origin)
    todo = [case for case in dataset.cases if None in found[case.id]]
    problems: list[Problem] = []
    configurations = [entry for entry, _ in chosen]
    work = {case.id: work_of((*case.images, case.label)) for case in todo}
    title, budget = f"prepare {' and '.join(folders)}", int(PREPARING_SHARE * available_bytes())
    with runtime.progress(title, len(todo), sum(work.values())) as advance, _OneThread(bool(runtime.workers)) as one_thread:

        def prepare(case: Case) -> list[StoredCase | None]:
            with memory_of(case.id, "use fewer --workers, or a machine with more memory; check the spacing in its header"):
                return _prepare(case, targets, found[case.id], plan, one_thread)

        def prepare_all(cases: Sequence[Case], workers: int) -> list[Case]:
            """Those that found no memory beside the others are given back, unless there were no others."""
            again = []
            for case, result in map_within(prepare, cases, lambda case: bytes_to_prepare(case, plan, configurations), budget, workers):
                if isinstance(result, ArtefactError):
                    raise result
                if isinstance(result, OutOfMemory) and workers > 1:
                    again.append(case)
                    continue
                if isinstance(result, AutounetError):
                    problems.append(Problem.of(case.id, result, "correct the case or remove it from the dataset"))
                else:
                    found[case.id] = result
                advance(1, case.id, work[case.id])
            return again

        prepare_all(prepare_all(todo, runtime.workers), 1)
    if problems:
        raise DatasetError(f"{dataset.name}: {len(problems)} of {len(dataset.cases)} cases could not be prepared", problems=problems)
    return {name: [stored for row in found.values() if (stored := row[number]) is not None] for number, name in enumerate(folders)}


def _check_room(plan: Plan, chosen: Sequence[tuple[Configuration, Path]], folders: Mapping[str, Path], cases: int) -> None:
    """Says before the work that the disk is too small for it, or may be.

    Raises:
        ArtefactError: There is not room for a small part of it, whatever compression gains.
    """
    for entry, folder in chosen:
        there = sum(path.stat().st_size for path in folder.glob("*.b2nd")) if folder.is_dir() else 0
        depth = 1 if entry.ndim == 3 else max((each.median_shape[0] for each, _ in chosen if each.ndim == 3), default=1)
        most = cases * depth * prod(entry.median_shape) * (4 * len(plan.channels) + 1) - there
        free = free_bytes(folder)
        if free is None or most <= free:
            continue
        found, expected = f"{in_bytes(free)} free", f"up to {in_bytes(most)}, usually a third to all of it"
        if free < LEAST_SHARE * most:
            raise ArtefactError(
                f"{folder}: the disk is too small for {cases} prepared cases",
                found=found,
                expected=expected,
                remedy="make room, or choose another disk with --runs",
            )
        log.warning("%s: the disk may be too small for %d prepared cases: found %s, expected %s", folder, cases, found, expected)


def files_digest(cases: Sequence[Case], labels: LabelSpec) -> str:
    """What ``StoredCase.origin`` of these cases would be now, as one digest; not for the second stage of a cascade.

    Raises:
        OSError: A file is gone.
    """
    origins: list[list[object]] = []
    for case in sorted(cases, key=lambda case: case.id):
        annotated = _annotated(case, labels)
        files: list[object] = [SourceFile.of(path).model_dump() for path in (*case.images, case.label)]
        origins.append(files if annotated is None else [*files, {"annotated": list(annotated)}])
    return digest_of(origins)


def bytes_to_prepare(case: Case, plan: Plan, configurations: Sequence[Configuration]) -> int:
    """Memory that preparing a case takes, about; 0 where its header cannot be read, which reading it will tell."""
    try:
        channels, grid = read_size(case.images[0])
        a, b, c = (grid.shape_zyx[axis] for axis in plan.transpose)
        prepared = max(math.prod(prepared_shape((a, b, c), grid, plan, entry, case.id)) for entry in configurations)
    except AutounetError:
        return 0
    channels, voxels = max(channels, len(case.images)), math.prod(grid.shape_zyx)
    # As read, float32, a copy where there are several configurations; resampled, with the steps on the way; label maps beside them.
    copies = 1 if len(configurations) == 1 else 2
    return channels * (4 * copies * voxels + 2 * max(4 * voxels, 4 * prepared)) + 4 * (voxels + prepared)


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


def _find(case: Case, target: "_Target", labels: LabelSpec) -> StoredCase | None:
    try:
        return target.store.find(case.id, target.sources(case), _annotated(case, labels))
    except ImageError:
        return None  # preparing it will say the same, together with what is wrong with other cases


@dataclass(frozen=True, slots=True)
class _Target:
    """A configuration to prepare for, and where to."""

    configuration: Configuration
    store: Store
    previous: Mapping[str, Path] | None
    """By case, what the stage before has predicted; None where there is no such stage."""

    @property
    def origin(self) -> str:
        """What cases are made from, in words."""
        return "the raw files" if self.previous is None else f"the raw files, what {self.configuration.previous_stage} predicts"

    def previous_of(self, case: Case) -> Path | None:
        """Raises ImageError where the stage before has not predicted the case."""
        if self.previous is None:
            return None
        if case.id not in self.previous:
            before = self.configuration.previous_stage
            raise ImageError(f"{case.id}: no label map of {before} for {self.configuration.name}", remedy=f"train {before} first")
        return self.previous[case.id]

    def sources(self, case: Case) -> tuple[SourceFile, ...]:
        """The files that the case is made from. Raises ImageError."""
        before = self.previous_of(case)
        try:
            return tuple(SourceFile.of(path) for path in (*case.images, case.label, *(() if before is None else (before,))))
        except OSError as error:
            raise ImageError(f"{case.id}: {error.filename} has vanished", remedy="restore the file or remove the case") from None


def _prepare(
    case: Case, targets: Sequence[_Target], there: Sequence[StoredCase | None], plan: Plan, one_thread: Callable[[], None]
) -> list[StoredCase | None]:
    """The case for all targets, as far as it is not there."""
    missing = [number for number, stored in enumerate(there) if stored is None]
    sources = {number: targets[number].sources(case) for number in missing}
    image, grid = read_channels(case.images, len(plan.channels))
    check_finite(image, case.id)
    values, label_grid = read_labels(case.label)
    different = grid.differences(label_grid)
    if different:
        raise ImageError(f"{case.id}: image and label map differ in {'; '.join(different)}")
    labels, results = plan.labels.encode(values, case.id), list(there)
    plan.labels.check_annotated(values, case.annotated, case.id)
    annotated = _annotated(case, plan.labels)
    for number in missing:
        configuration, last, before = targets[number].configuration, number == missing[-1], targets[number].previous_of(case)
        previous = None if before is None else read_previous(before, grid, plan.labels, case.id)
        prepared = prepare_case(image, grid, plan, configuration, labels, case.id, previous, last, one_thread)
        assert prepared.labels_zyx is not None
        z, y, x = configuration.patch_size if configuration.ndim == 3 else (1, *configuration.patch_size)
        border = border_weights(prepared.labels_zyx, plan.loss) if needs_border(plan.loss) else None
        results[number] = targets[number].store.write(
            case.id,
            prepared.image_czyx,
            prepared.labels_zyx,
            prepared.trace,
            plan.labels,
            sources[number],
            (z, y, x),
            border,
            annotated,
            prepared.previous_zyx,
        )
    return results


def _annotated(case: Case, labels: LabelSpec) -> tuple[int, ...] | None:
    return None if case.annotated is None else labels.positions(case.annotated)


class _OneThread:
    """Cases run in parallel, so each uses one torch thread; with no workers a case may use them all.

    Called in a worker that is going to use torch, which is only imported then.
    """

    def __init__(self, on: bool) -> None:
        self._on, self._before, self._lock = on, 0, threading.Lock()

    def __call__(self) -> None:
        if self._on:
            import torch

            with self._lock:
                self._before = self._before or torch.get_num_threads()
                torch.set_num_threads(1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._before:
            import torch

            torch.set_num_threads(self._before)
