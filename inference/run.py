"""Predict many cases: reading and preparing, the network, and restoring and writing of different cases overlap; memory stays bounded."""

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import Tensor

from autounet.device import free_cached, is_out_of_memory, one_thread, threads_kept
from autounet.errors import AutounetError, ImageError, Problem
from autounet.geometry import Grid
from autounet.image_names import split_ending
from autounet.images import read_channels, write_labels
from autounet.images.meaning import Meaning, meaning_of
from autounet.images.separate import write_separate
from autounet.inference.confidence import Confidence, mean_confidence
from autounet.inference.model import Model
from autounet.inference.needs import LEAST_BYTES, CaseSize, Needs, memory_budget, size_of
from autounet.inference.postprocess import apply_postprocessing
from autounet.inference.probabilities import ProbabilityGrid
from autounet.inference.restore import LabelRestorer
from autounet.inference.segment import Consumer, WindowOptions, first_prepared, last_prepared, restorer_of, stage_slabs
from autounet.inference.tiles import count_tiles, overlap_tiles
from autounet.memory import peak_bytes
from autounet.parallel import Background, Gate, map_ordered
from autounet.plan import Configuration
from autounet.preprocessing.case import PreparedCase, target_spacing
from autounet.preprocessing.previous import read_previous
from autounet.runtime import Advance, Runtime

log = logging.getLogger(__name__)

MANY_TILES = 4
"""Beyond so many, progress tells the tiles of a case."""

SLABS_BEHIND = 2
"""Slabs of scores that may wait to be restored."""


@dataclass(frozen=True, slots=True)
class PredictionJob:
    """One case to predict."""

    case: str
    images: tuple[Path, ...]
    output: Path
    probabilities: Path | None = None
    """Where the probabilities go, too; see ``ProbabilityGrid.write``."""
    uncertainty: Path | None = None
    """Where a map of the predictive entropy goes, too, in percent: every format of label maps can hold it."""
    separate: Path | None = None
    """A folder where every structure goes, too, as a file of its own; see ``write_separate``."""
    previous: Path | None = None
    """For a model that is the second stage of a cascade alone: the first one's label map, on the image's grid."""


@dataclass(frozen=True, slots=True)
class Predicted:
    """What became of the cases."""

    problems: list[Problem]
    """Of every case that failed, in the cases' order."""
    cases: int
    """Cases whose label maps are written."""
    voxels: int
    """Of their images, as they were read."""
    seconds: float
    peak_bytes: int | None
    """Most memory that this process had since it began; None where the system does not tell."""
    expected_dice: dict[str, float | None] = field(default_factory=dict)
    """By case: the Dice that the probabilities themselves lead to expect, see ``inference/confidence.py``."""


def predict_cases(
    model: Model,
    jobs: Sequence[PredictionJob],
    runtime: Runtime,
    mirror: bool = True,
    memory_gb: float | None = None,
    meaning: Meaning | None = None,
    written: Callable[[str, float | None], None] = lambda case, expected_dice: None,
) -> Predicted:
    """Predicts and writes every case; a case that fails does not stop the others.

    Cases are read and prepared ahead in ``runtime.workers`` threads, and restored and written in one; the network runs in the calling
    thread. With 0 workers everything does. A case is read only when it fits beside those that are under way.

    Args:
        model: Loaded once for all.
        jobs: Cases; each output file is written atomically.
        runtime: Workers and progress.
        mirror: Average over mirrored copies.
        memory_gb: Memory this process is to keep to (1 GB = 1e9 bytes); by default ``MEMORY_SHARE`` of what is available.
        meaning: What the label maps' values mean, for formats that can say it; by default the plan's labels.
        written: Called in this thread when a case's label map is there, with its expected Dice.
    """
    meaning = meaning_of(model.plan.labels, dataset=model.plan.dataset) if meaning is None else meaning
    began, budget = time.monotonic(), memory_budget(model, memory_gb)
    finished: deque[_Case] = deque()
    problems: list[Problem] = []
    voxels: list[int] = []
    expected: dict[str, float | None] = {}
    gate = Gate(budget)
    sizes = [size_of(model, job.images) for job in jobs]
    start_thread = one_thread if model.device.type == "cpu" else None
    read_ahead = map_ordered(
        lambda turn: _read(turn, jobs[turn], sizes[turn], model, budget, gate),
        range(len(jobs)),
        runtime.workers,
        runtime.workers,
        start_thread,
        gate.close,
    )

    def settle() -> None:
        while finished:
            case = finished.popleft()
            if case.error is None:
                voxels.append(case.voxels)
                expected[case.job.case] = mean_confidence(case.confidences)
                written(case.job.case, expected[case.job.case])
            else:
                problems.append(Problem.of(case.job.case, case.error, "correct the image and run the command again"))
            advance(1, case.job.case, case.work)

    with threads_kept(), runtime.progress("predict", len(jobs), sum(size.work for size in sizes)) as advance:
        # From the last to the first: what is being written ends, whoever waits for memory gives up, reading ends, and what an
        # interruption left open is closed.
        with ExitStack() as opened, closing(read_ahead), gate, Background(runtime.workers > 0, SLABS_BEHIND, start_thread) as background:
            for turn, read in read_ahead:
                case = _Case(jobs[turn], sizes[turn].work, error=read) if isinstance(read, AutounetError) else read
                opened.push(case.takers)
                _score(case, model, WindowOptions(mirror, scratch=case.job.output.parent), budget, background, advance)
                background.do(partial(_finish, case, model, meaning, gate, finished))
                settle()
                del case, read  # not kept alive while the next is awaited
        settle()
    return Predicted(problems, len(voxels), sum(voxels), time.monotonic() - began, peak_bytes(), expected)


def validation_seconds(
    shapes: Sequence[tuple[int, ...]], configuration: Configuration, forward_seconds: float, mirror: bool = True
) -> float:
    """Estimate of the time to predict prepared cases of these shapes, from one patch's forward pass."""
    copies = 2 ** len(configuration.mirror_axes) if mirror else 1
    overlap = overlap_tiles(configuration)
    tiles = sum(count_tiles(shape, configuration.patch_size, overlap) for shape in shapes)
    return tiles * copies * forward_seconds


@dataclass(slots=True)
class _Case:
    """A case on its way from its images to its label map. Whoever still holds it holds only what is still needed."""

    job: PredictionJob
    work: float
    """What progress has not been told of yet."""
    needs: Needs | None = None
    """None where it never was inside the gate."""
    prepared: PreparedCase | None = None
    image_czyx: npt.NDArray[np.float32] | None = None
    """As read; only where a later stage or another member prepares it once more."""
    grid: Grid | None = None
    error: AutounetError | None = None
    restorer: LabelRestorer | None = None
    """Of a model that is averaged with no other."""
    probabilities: ProbabilityGrid | None = None
    takers: ExitStack = field(default_factory=ExitStack)
    """Closes the probabilities."""
    confidences: list[Confidence] = field(default_factory=list)
    consumers: list[Consumer] = field(default_factory=list)

    @property
    def voxels(self) -> int:
        """Of the image as it was read."""
        return 0 if self.grid is None else math.prod(self.grid.shape_zyx)


def _read(turn: int, job: PredictionJob, size: CaseSize, model: Model, budget: int, gate: Gate) -> _Case:
    """Waits until there is memory for a case, and reads and prepares it. Raises ImageError."""
    needs = size.needs
    if needs.most > budget:
        log.warning(
            "%s takes about %.2f GB, more than the %.2f GB there are for it: it is predicted alone",
            job.case,
            needs.most / 1e9,
            budget / 1e9,
        )
    gate.enter(turn, needs.most)
    try:
        with _memory_of(job.case):
            image, grid = read_channels(job.images, len(model.plan.channels))
            previous = None if job.previous is None else read_previous(job.previous, grid, model.plan.labels, job.case)
            prepared = first_prepared(model, image, grid, str(job.images[0]) if len(job.images) == 1 else job.case, previous)
    except BaseException:
        gate.leave(needs.most)
        raise
    again = len(model.members) > 1 or len(model.stages) > 1
    return _Case(job, size.work, needs, prepared, image if again else None, grid)


def _score(case: _Case, model: Model, options: WindowOptions, budget: int, background: Background, advance: Advance) -> None:
    """Moves the window over a case; slabs of scores go to the background as they are finished. Errors are left in the case."""
    if case.error is not None:
        return
    assert case.needs is not None
    options = replace(options, limit_bytes=max(budget - case.needs.predicting, LEAST_BYTES // 4))

    passes = sum(len(member.stages) for member in model.members)
    share, before = (case.work - 1) / passes, 0

    def tiles_done(done: int, total: int) -> None:
        nonlocal before
        if total > MANY_TILES:
            work = share * (done - (before if before < done else 0)) / total
            before, case.work = done, case.work - work
            advance(0, f"{case.job.case}: tile {done} of {total}", work)

    try:
        with _memory_of(case.job.case):
            if len(model.members) > 1 or case.job.probabilities is not None or case.job.uncertainty is not None:
                assert case.grid is not None
                grid = ProbabilityGrid(case.job.output.parent, case.grid, model.plan.labels, model.shares)
                case.probabilities = case.takers.enter_context(grid)
            for member in model.members:
                for slab in _slabs_of(case, member, model, options, tiles_done):
                    background.do(partial(_hand_on, case, slab, case.consumers))
                    if case.error is not None:
                        return
    except AutounetError as error:
        case.error = error.without_frames()


def _slabs_of(case: _Case, member: Model, model: Model, options: WindowOptions, tiles_done: Callable[[int, int], None]) -> Iterator[Tensor]:
    """The scores of one member for a case, with those who take them in ``case.consumers``."""
    prepared, name = case.prepared, case.job.case
    case.prepared = None
    if prepared is None:  # the first member has used it
        assert case.image_czyx is not None
        assert case.grid is not None
        prepared = first_prepared(member, case.image_czyx, case.grid, name)
    prepared = last_prepared(member, prepared, case.image_czyx, name, options, tiles_done)
    if member is model.members[-1]:
        case.image_czyx = None
    confidence = Confidence(model.plan.labels)
    case.confidences.append(confidence)
    consumers: list[Consumer] = [confidence]
    if len(model.members) == 1:
        case.restorer = restorer_of(member, member.stages[-1], prepared)
        consumers.append(case.restorer)
    if case.probabilities is not None:
        consumers.append(case.probabilities.taker(prepared.trace, target_spacing(prepared.trace, member.stages[-1].configuration)))
    case.consumers = consumers
    yield from stage_slabs(member, member.stages[-1], prepared, options, tiles_done)


def _hand_on(case: _Case, slab: Tensor, consumers: Sequence[Consumer]) -> None:
    """Gives a slab of scores to all that take them."""
    if case.error is None:
        try:
            with _memory_of(case.job.case):
                for consumer in consumers:
                    consumer.add(slab)
        except AutounetError as error:
            case.error = error.without_frames()


def _finish(case: _Case, model: Model, meaning: Meaning, gate: Gate, finished: deque[_Case]) -> None:
    """Writes a case's label map and lets the next one in."""
    try:
        with _memory_of(case.job.case), case.takers:
            if case.error is not None:
                raise case.error
            assert case.grid is not None
            source = case.restorer or case.probabilities
            assert source is not None
            labels = apply_postprocessing(source.labels_zyx(), model.postprocessing, case.grid)
            if case.probabilities is not None:
                if case.job.probabilities is not None:
                    case.probabilities.write(case.job.probabilities)
                if case.job.uncertainty is not None:
                    write_labels(case.job.uncertainty, case.probabilities.entropy_percent_zyx(), case.grid, like=case.job.images[0])
            if case.job.separate is not None:
                write_separate(case.job.separate, labels, case.grid, split_ending(case.job.output)[1], case.job.images[0], meaning)
            # Last: where it is, everything is.
            write_labels(case.job.output, labels, case.grid, like=case.job.images[0], meaning=meaning)
    except AutounetError as error:
        case.error = error.without_frames()
    finally:
        case.restorer = case.probabilities = case.prepared = case.image_czyx = None
        case.consumers = []
        if case.needs is not None:
            gate.leave(case.needs.most)
    finished.append(case)


@contextmanager
def _memory_of(case: str) -> Iterator[None]:
    """Makes running out of memory the failure of one case, not of all."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        free_cached()
        raise ImageError(
            f"{case}: not enough memory",
            found=str(error).split("\n")[0] or None,
            remedy="check the spacing in its header; if that is right, predict it on a machine with more memory, or with --device cpu",
        ) from None
