"""Dataset → fingerprint: one pass over all cases, in threads, with every problem of every case collected.

What the intensities mean (nnunetv2 2.8.1, ``dataset_fingerprint/fingerprint_extractor.py``, is the model): every case weighs the
same, however many labelled voxels it has. nnU-Net draws equally many voxels from each case, with replacement, and takes the
statistics of all of them; here mean, deviation, minimum and maximum are exact, and percentiles come from equally many evenly
spaced quantiles of every case. Two differences are deliberate: voxels with the ignore label are left out (nnU-Net counts them as
labelled), and nothing is drawn at random except where a case has more than a million labelled voxels.
"""

import logging
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from math import prod
from pathlib import Path

import numpy as np
import numpy.typing as npt

from autounet import __version__
from autounet.artefact import digest_of
from autounet.dataset import Case, DatasetSpec
from autounet.errors import AutounetError, DatasetError, Problem
from autounet.fingerprint import CaseFingerprint, Fingerprint, Intensities
from autounet.geometry import Box, nonzero_box
from autounet.image_names import image_state
from autounet.labels import IntArray, LabelSpec
from autounet.parallel import map_ordered
from autounet.planners.components import count_components
from autounet.planners.facts import VERSION, CaseFacts, ChannelFacts, load_facts, save_facts
from autounet.planners.laterality.extents import measure_extents
from autounet.planners.laterality.names import NamedPair, named_pairs
from autounet.planners.laterality.pairs import exchanged_sides, mirrored_classes, warn_of_exchanged_sides
from autounet.planners.laterality.side_by_side import sight
from autounet.planners.orientation import mixed_orientation, orientation_of
from autounet.planners.reading import file_problem, read_case
from autounet.planners.words import count
from autounet.runtime import Runtime

log = logging.getLogger(__name__)

QUANTILES_PER_CASE = 10_000
FEWEST_QUANTILES_PER_CASE = 1_000
POOLED_QUANTILES = 4_000_000
"""At most so many quantiles of all cases together are kept per channel, as long as each case keeps its fewest."""

MOST_SORTED = 1_000_000
"""Of a case with more labelled voxels, so many are drawn for the quantiles."""

SEED = 1234
"""For that draw. Not the run's seed: the fingerprint belongs to the dataset, whoever extracts it."""


def extract_fingerprint(dataset: DatasetSpec, runtime: Runtime, kept_in: Path | None = None) -> Fingerprint:
    """Reads and checks all training cases and measures what the planner needs.

    Memory holds ``runtime.workers + 1`` cases at most. The result does not depend on the number of workers.

    Args:
        dataset: The dataset.
        runtime: Workers and progress.
        kept_in: File of what cases have told before. Those whose files are as they were are not read; what the others tell is added.

    Raises:
        DatasetError: Some files cannot be used, contradict each other or dataset.json, or nothing is labelled;
            ``problems`` lists every finding of every case.
    """
    kept = max(FEWEST_QUANTILES_PER_CASE, min(QUANTILES_PER_CASE, POOLED_QUANTILES // max(1, len(dataset.cases))))
    pairs = named_pairs(dataset.labels.names)
    keys = {case.id: _key(case, dataset, kept) for case in dataset.cases}
    known = {} if kept_in is None else load_facts(kept_in)
    told = {case.id: known[keys[case.id]] for case in dataset.cases if keys[case.id] in known}
    todo = [case for case in dataset.cases if case.id not in told]
    with runtime.progress("Reading cases", len(todo)) as advance:
        for case, result in map_ordered(lambda case: _analyse(case, dataset, pairs, kept), todo, runtime.workers):
            told[case.id] = CaseFacts((file_problem(case.id, result),)) if isinstance(result, AutounetError) else result
            advance(1, case.id)
    facts = [told[case.id] for case in dataset.cases]
    if kept_in is not None and (todo or len(known) != len(facts)):
        save_facts(kept_in, {keys[case.id]: entry for case, entry in zip(dataset.cases, facts, strict=True)})
    _raise_problems(dataset, facts)
    cases = tuple(entry.fingerprint for entry in facts if entry.fingerprint is not None)
    for name in dataset.labels.names:
        if not any(case.class_voxels.get(name) for case in cases):
            log.warning("class '%s' is in none of the %s: nothing can be learnt of it", name, count(len(cases), "case"))
    sightings = [entry.sightings for entry in facts]
    mirrored = mirrored_classes(dataset.labels, cases, sightings)
    warn_of_exchanged_sides(dataset.labels, exchanged_sides(dataset.labels, cases, sightings, mirrored))
    mixed = mixed_orientation(cases)
    if mixed is not None:
        log.warning("%s: mixed orientations: %s", dataset.name, mixed)
    relative = [prod(case.shape_after_crop_zyx) / prod(case.shape_zyx) for case in cases]
    labelled = [entry.channels for entry in facts if entry.channels]
    return Fingerprint(
        made_from={"dataset": dataset_digest(dataset)},
        dataset=dataset.name,
        ndim=facts[0].ndim,
        channels=dataset.channels,
        labels=dataset.labels,
        cases=cases,
        intensities=tuple(_pooled([case[channel] for case in labelled]) for channel in range(len(dataset.channels))),
        median_relative_size_after_crop=float(np.median(relative)),
        mirrored_classes=mirrored,
    )


def dataset_digest(dataset: DatasetSpec) -> str:
    """Hash of what a fingerprint is made from: channels, labels, cases, and name, size and time of each file (no file is read).

    Classes that are annotated are part of it where they are not all.
    """
    files = [_state_of(case) for case in dataset.cases]
    return digest_of([list(dataset.channels), dataset.labels.model_dump(mode="json"), files])


def _state_of(case: Case) -> list[object]:
    return [
        case.id,
        *([file.name, *image_state(file)] for file in (*case.images, case.label)),
        *([] if case.annotated is None else [list(case.annotated)]),
    ]


def _key(case: Case, dataset: DatasetSpec, quantiles: int) -> str:
    """Of all that decides what a case tells."""
    try:
        state = _state_of(case)
    except OSError:
        state = []  # reading it says what is wrong
    labels = dataset.labels.model_dump(mode="json")
    return digest_of([VERSION, Fingerprint.VERSION, __version__, quantiles, list(dataset.channels), labels, state])


def _analyse(case: Case, dataset: DatasetSpec, pairs: Sequence[NamedPair], kept: int) -> CaseFacts:
    read, ndim, problems = read_case(case, dataset)
    if read is None:
        return CaseFacts(problems, ndim=ndim or 3)
    image, labels, grid = read.image_czyx, read.labels_zyx, read.grid
    box = nonzero_box(image)
    extents = measure_extents(labels, dataset.labels)
    names = dataset.labels.names if case.annotated is None else case.annotated
    if case.annotated is not None:  # a region that is not annotated may share values with one that is
        annotated = np.isin(np.arange(len(extents.volumes)), dataset.labels.positions(names))
        extents = replace(extents, volumes=np.where(annotated, extents.volumes, 0))
    volumes = dict(zip(dataset.labels.names, extents.volumes.tolist(), strict=True))
    orientation = orientation_of(grid, case.images[0])
    return CaseFacts(
        problems=(),
        ndim=grid.ndim,
        fingerprint=CaseFingerprint(
            case=case.id,
            shape_zyx=grid.shape_zyx,
            shape_after_crop_zyx=box.shape,
            spacing_mm_zyx=grid.spacing_mm_zyx,
            class_voxels={name: volumes[name] for name in names},
            orientation=orientation,
            annotated_share=annotated_share(labels, dataset.labels),
            components=count_components(labels, dataset.labels, extents) if grid.ndim == 2 else {},
        ),
        channels=_channel_facts(case.id, image, labels, box, dataset.labels, kept),
        sightings=sight(labels, dataset.labels, extents, grid.spacing_mm_zyx, orientation, pairs),
    )


def annotated_share(labels_zyx: IntArray, spec: LabelSpec) -> float | None:
    """Of the voxels those with any label but the ignore label; None where labels have no such."""
    return None if spec.ignore_value is None else 1 - np.count_nonzero(labels_zyx == spec.ignore_value) / labels_zyx.size


def _channel_facts(
    case_id: str, image: npt.NDArray[np.float32], labels: IntArray, box: Box, spec: LabelSpec, kept: int
) -> tuple[ChannelFacts, ...]:
    inside = labels[box.slices()]
    foreground = inside > 0
    if spec.ignore_value is not None:
        foreground &= inside != spec.ignore_value
    if not foreground.any():
        return ()
    return tuple(_facts(case_id, channel[box.slices()][foreground], kept) for channel in image)


def _facts(case_id: str, values: npt.NDArray[np.float32], kept: int) -> ChannelFacts:
    mean = float(values.mean(dtype=np.float64))
    drawn = values
    if len(values) > MOST_SORTED:
        rng = np.random.default_rng((SEED, zlib.crc32(case_id.encode())))
        drawn = values[rng.integers(0, len(values), MOST_SORTED)]
    drawn = np.sort(drawn)
    # The middle of each of ``kept`` equal parts of the sorted values; a case with fewer values repeats them.
    positions = ((np.arange(kept) + 0.5) * (len(drawn) / kept)).astype(np.intp)
    return ChannelFacts(
        mean=mean,
        variance=float(np.square(values - mean, dtype=np.float64).mean()),
        minimum=float(values.min()),
        maximum=float(values.max()),
        quantiles=drawn[positions],
    )


def _pooled(cases: Sequence[ChannelFacts]) -> Intensities:
    """Statistics over cases, each of which weighs the same."""
    means = np.array([case.mean for case in cases])
    variances = np.array([case.variance for case in cases])
    mean = float(means.mean())
    low, median, high = np.percentile(np.concatenate([case.quantiles for case in cases]), (0.5, 50.0, 99.5)).tolist()
    return Intensities(
        mean=mean,
        std=float(np.sqrt((variances + np.square(means - mean)).mean())),
        min=min(case.minimum for case in cases),
        max=max(case.maximum for case in cases),
        median=median,
        percentile_00_5=low,
        percentile_99_5=high,
    )


def _raise_problems(dataset: DatasetSpec, facts: Sequence[CaseFacts]) -> None:
    """Raises DatasetError with all findings, if there are any."""
    problems = [problem for entry in facts for problem in entry.problems]
    used = [(entry.ndim, entry.fingerprint.case) for entry in facts if entry.fingerprint is not None]
    kinds = {2: "planar (2D)", 3: "a volume (3D)"}
    usual = Counter(ndim for ndim, _ in used).most_common(1)[0][0] if used else 3
    problems.extend(
        Problem(case, f"is {kinds[ndim]}, but most others are {kinds[usual]}", "keep planar images and volumes apart")
        for ndim, case in used
        if ndim != usual
    )
    if problems:
        concerned = len({problem.case for problem in problems})
        raise DatasetError(
            f"{dataset.name}: {count(len(problems), 'problem')} in {concerned} of {count(len(dataset.cases), 'case')}",
            problems=sorted(problems, key=lambda problem: problem.case),
            remedy="mend or remove these cases",
        )
    if not used:
        raise DatasetError(f"{dataset.name}: no training cases", remedy="put images into imagesTr and label maps into labelsTr")
    if not any(entry.channels for entry in facts):
        raise DatasetError(
            f"{dataset.name}: nothing is labelled in any of {count(len(used), 'case')}",
            found="only background" + ("" if dataset.labels.ignore_value is None else " and the ignore label"),
            expected="voxels of " + ", ".join(dataset.labels.names[:8]),
            remedy="check that labelsTr holds the right files",
        )
