"""Images without contrast, in another unit, or with inverted contrast."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from autounet.dataset import DatasetSpec
from autounet.health.findings import Finding
from autounet.health.measure import Measures, middle_of, usual_case
from autounet.health.robust import FEWEST, deviations
from autounet.planners.normalization import SCHEME_BY_CHANNEL
from autounet.planners.words import count

RANGE_TIMES = 5.0
"""A range of intensities (1 to 99 %) that is not so many times the median or its inverse is nothing unusual: of scanners, for example."""

SHIFT = 0.5
"""The middle of the intensities is somewhere else when it has moved by so much of the usual range."""

CLEAR = 0.3
"""A class that is so many standard deviations of its surroundings brighter or darker than the background around has a contrast."""

SAME_SIGN = 0.9
"""A class has a usual contrast when so many of its cases have a clear one of the same sign."""

LOUDLY_NORMALISED = ("ct", "none")
"""Schemes that use the same numbers for all cases: an image in another unit is garbage to the network."""

Floats = npt.NDArray[np.float64]


def find_constant(dataset: DatasetSpec, seen: Sequence[Measures]) -> list[Finding]:
    """Channels in which every voxel has the same intensity."""
    return [
        Finding(
            case=entry.fingerprint.case,
            kind="constant image",
            severity="severe",
            what=f"every voxel of channel {dataset.channels[number]} is {channel.minimum:g}",
            advice="replace the image or remove the case",
        )
        for entry in seen
        for number, channel in enumerate(entry.channels)
        if channel.minimum == channel.maximum
    ]


def find_unusual_brightness(dataset: DatasetSpec, seen: Sequence[Measures]) -> list[Finding]:
    """Cases whose intensities have another range or lie somewhere else than usual; those of one kind are told of together."""
    found = []
    if len(seen) < FEWEST:
        return []
    for number, channel in enumerate(dataset.channels):
        scheme = SCHEME_BY_CHANNEL.get(channel.casefold(), "zscore")
        lows, middles, highs = (np.array([getattr(entry.channels[number], name) for entry in seen]) for name in ("low", "middle", "high"))
        ranges = highs - lows
        usual = float(np.median(ranges))
        if usual <= 0:
            continue
        wide = deviations(np.log(np.maximum(ranges, 1e-6 * usual)), np.log(RANGE_TIMES))
        moved = np.where(wide == 0, deviations(middles / usual, SHIFT), 0.0)
        meaning = (
            "the network sees the numbers as they are, so these are foreign to it"
            if scheme in LOUDLY_NORMALISED
            else f"each image is normalised by itself ({scheme}), so training copes"
        )
        for away, word, measure in ((wide, "a range", ranges), (moved, "a middle", middles)):
            for sign in (1, -1):
                places = np.flatnonzero(np.sign(away) == sign)
                if not len(places):
                    continue
                worst = places[np.abs(away[places]).argsort()[::-1]]
                names = [seen[place].fingerprint.case for place in worst]
                found.append(
                    Finding(
                        case=names[0],
                        kind="brightness",
                        severity="warning" if scheme in LOUDLY_NORMALISED else "notice",
                        what=f"channel {channel}: intensities have {word} of {_span(measure[places])} in {count(len(places), 'case')}, "
                        f"usually {float(np.median(measure)):.4g}: another unit, scale or scanner; {meaning}",
                        advice="bring the images to one unit" if scheme in LOUDLY_NORMALISED else "nothing, if you know why",
                        others=tuple(names[1:]),
                        place_zyx=middle_of(seen[worst[0]]),
                        beside=usual_case(seen, names),
                    )
                )
    return found


def find_inverted(dataset: DatasetSpec, seen: Sequence[Measures]) -> list[Finding]:
    """Cases in which structures that are usually brighter than their surroundings are darker, or the other way round."""
    found = []
    for number, channel in enumerate(dataset.channels):
        table = np.array([entry.channels[number].contrasts for entry in seen], np.float64).reshape(len(seen), len(dataset.labels.classes))
        signs = np.where(np.isnan(table) | (np.abs(table) < CLEAR), 0, np.sign(table))
        usual = _usual_signs(table, signs)
        telling = (usual != 0) & (signs != 0)
        inverted = telling & (signs == -usual)
        for place in (inverted.sum(axis=1) > telling.sum(axis=1) / 2).nonzero()[0].tolist():
            positions = np.flatnonzero(inverted[place])
            name = dataset.labels.names[positions[0]]
            shape = seen[place].shapes[positions[0]]
            more = f" (and {count(len(positions) - 1, 'more class')})".replace("classs", "classes") if len(positions) > 1 else ""
            brighter = "brighter" if usual[positions[0]] > 0 else "darker"
            found.append(
                Finding(
                    case=seen[place].fingerprint.case,
                    kind="inverted contrast",
                    severity="warning",
                    what=f"channel {channel}: '{name}'{more} is {brighter} than its surroundings in the other cases, here it is "
                    f"{'darker' if usual[positions[0]] > 0 else 'brighter'}",
                    advice="check that it is the same kind of image, and that image and label map belong together",
                    classes=tuple(dataset.labels.names[position] for position in positions),
                    place_zyx=middle_of(seen[place]) if shape is None else shape.middle_zyx,
                    beside=usual_case(seen, [seen[number].fingerprint.case for number in inverted.any(axis=1).nonzero()[0].tolist()]),
                )
            )
    return found


def _usual_signs(table: Floats, signs: Floats) -> Floats:
    """By class: 1, -1, or 0 where the cases do not agree or are too few."""
    there = (~np.isnan(table)).sum(axis=0)
    agree = np.where(np.maximum((signs > 0).sum(axis=0), (signs < 0).sum(axis=0)) >= SAME_SIGN * there, np.sign(signs.sum(axis=0)), 0)
    return np.asarray(np.where(there >= FEWEST, agree, 0.0))


def _span(values: Floats) -> str:
    low, high = float(values.min()), float(values.max())
    return f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"
