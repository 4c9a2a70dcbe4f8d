"""Dataset → findings: one pass over all cases, in threads, then every check on what they showed."""

from collections import Counter
from collections.abc import Callable, Sequence

from autounet.artefact import digest_of
from autounet.dataset import DatasetSpec
from autounet.errors import AutounetError
from autounet.health.copies import find_copies, find_likenesses
from autounet.health.findings import Finding, Health, Kind, worst_first
from autounet.health.grids import find_orientations, find_sizes, find_slants, find_spacings
from autounet.health.intensities import find_constant, find_inverted, find_unusual_brightness
from autounet.health.labels import find_cut_off, find_holes, find_islands, find_outside
from autounet.health.measure import Look, Measures, look_at
from autounet.health.robust import FEWEST
from autounet.health.sides import find_exchanged
from autounet.health.volumes import find_missing, find_rare_classes, find_unusual_volumes
from autounet.parallel import map_ordered
from autounet.planners.extract import dataset_digest
from autounet.planners.laterality.names import named_pairs
from autounet.planners.reading import file_problem
from autounet.planners.words import count
from autounet.runtime import Runtime
from autounet.splits import FOLDS, Split

Check = Callable[[DatasetSpec, Sequence[Measures]], list[Finding]]

CHECKS: tuple[Check, ...] = (
    find_exchanged,
    find_missing,
    find_unusual_volumes,
    find_islands,
    find_holes,
    find_outside,
    find_cut_off,
    find_spacings,
    find_sizes,
    find_orientations,
    find_slants,
    find_unusual_brightness,
    find_inverted,
)
"""Those that need nothing but the cases."""

EXPLAINED_BY_SPACING: tuple[Kind, ...] = ("size of a structure", "size of an image")
"""Where the spacing is wrong, so are these, and nothing needs to be said of them."""


def examine(dataset: DatasetSpec, folds: Sequence[Split], runtime: Runtime) -> Health:
    """Reads all training cases and finds what is likely to be wrong.

    A file that cannot be used is a finding. Memory holds ``runtime.workers + 1`` cases at most, and some 20 kB for every case.
    The result does not depend on the number of workers.

    Args:
        dataset: The dataset.
        folds: The folds it is or will be trained in, to tell which copies leak; none when it cannot be split.
        runtime: Workers and progress.
    """
    pairs = named_pairs(dataset.labels.names)
    looks: list[Look] = []
    with runtime.progress("Examining cases", len(dataset.cases)) as advance:
        for case, result in map_ordered(lambda case: look_at(case, dataset, pairs), dataset.cases, runtime.workers):
            look = Look(case.id, problems=(file_problem(case.id, result),)) if isinstance(result, AutounetError) else result
            looks.append(look)
            advance(1, case.id)
    return judge(dataset, looks, folds)


def judge(dataset: DatasetSpec, looks: Sequence[Look], folds: Sequence[Split]) -> Health:
    """Compares what the cases have shown; the second half of ``examine``."""
    dimensions = Counter(look.ndim for look in looks if look.measures is not None)
    usual = dimensions.most_common(1)[0][0] if dimensions else 3
    # Planar images and volumes cannot be compared, nor trained together.
    seen = [look.measures for look in looks if look.measures is not None and look.ndim == usual]
    findings = [finding for look in looks for finding in _unusable(look, usual)]
    findings += find_constant(dataset, seen)
    # Without any contrast a case has no place among the others.
    seen = [entry for entry in seen if all(channel.minimum < channel.maximum for channel in entry.channels)]
    findings += [*find_copies(dataset, seen, folds), *find_likenesses(dataset, seen, folds)]
    findings += [finding for check in CHECKS for finding in check(dataset, seen)]
    findings += find_rare_classes(dataset, seen, len(folds) or FOLDS)
    stretched = {finding.case for finding in findings if finding.kind == "spacing"}
    findings = [finding for finding in findings if finding.case not in stretched or finding.kind not in EXPLAINED_BY_SPACING]
    return Health(
        made_from=made_from(dataset, folds),
        dataset=dataset.name,
        cases=len(looks),
        findings=tuple(worst_first(findings)),
        not_checked=_not_checked(seen),
    )


def made_from(dataset: DatasetSpec, folds: Sequence[Split]) -> dict[str, str]:
    """What a health report depends on: the dataset's files and the folds. No file is read."""
    return {"dataset": dataset_digest(dataset), "folds": digest_of([fold.model_dump(mode="json") for fold in folds])}


def _unusable(look: Look, usual: int | None) -> list[Finding]:
    found = [Finding(case=look.case, kind="unusable file", severity="severe", what=item.what, advice=item.remedy) for item in look.problems]
    if look.measures is not None and look.ndim != usual:
        kinds = {2: "planar (2D)", 3: "a volume (3D)"}
        what = f"is {kinds[look.ndim or 3]}, but most others are {kinds[usual or 3]}"
        found.append(
            Finding(case=look.case, kind="unusable file", severity="severe", what=what, advice="keep planar images and volumes apart")
        )
    return found


def _not_checked(seen: Sequence[Measures]) -> tuple[str, ...]:
    told = []
    if len(seen) < FEWEST:
        told.append(f"what is unusual: that needs {FEWEST} cases to compare, here {'is' if len(seen) == 1 else 'are'} {len(seen)}")
    partly = sum(not entry.complete for entry in seen)
    if partly:
        told.append(f"shapes and sizes of structures in {count(partly, 'case')} with voxels that are not annotated (the ignore label)")
    return tuple(told)
