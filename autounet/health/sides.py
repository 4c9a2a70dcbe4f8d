"""Cases in which left and right are exchanged."""

from collections.abc import Sequence

from autounet.dataset import DatasetSpec
from autounet.health.findings import Finding
from autounet.health.measure import Measures, usual_case
from autounet.planners.laterality.pairs import exchanged_sides, mirrored_classes
from autounet.planners.words import count

FEW = 0.25
"""Where more of the cases lie the other way round than the others, it is not plain which of them are wrong."""


def find_exchanged(dataset: DatasetSpec, seen: Sequence[Measures]) -> list[Finding]:
    """Cases in which classes named left and right lie the other way round than in most."""
    cases, sightings = [entry.fingerprint for entry in seen], [entry.sightings for entry in seen]
    mirrored = mirrored_classes(dataset.labels, cases, sightings)
    exchanged = exchanged_sides(dataset.labels, cases, sightings, mirrored)
    by_case = {entry.fingerprint.case: entry for entry in seen}
    found = []
    for case, pairs in exchanged.items():
        names = [dataset.labels.names[position] for position in pairs[0]]
        more = "" if len(pairs) == 1 else f" (and {count(len(pairs) - 1, 'more pair')})"
        shape = by_case[case].shapes[pairs[0][0]]
        found.append(
            Finding(
                case=case,
                kind="exchanged sides",
                severity="severe" if len(exchanged) <= FEW * len(seen) else "warning",
                what=f"'{names[0]}' and '{names[1]}'{more} lie the other way round than in most cases",
                advice="exchange the labels, or correct the direction in the header of image and label map",
                classes=tuple(names),
                place_zyx=None if shape is None else shape.middle_zyx,
                beside=usual_case(seen, list(exchanged)),
            )
        )
    return found
