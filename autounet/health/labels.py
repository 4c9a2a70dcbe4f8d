"""Islands, holes, labels outside the body, and structures cut off by the border, where the other cases have none."""

from collections.abc import Sequence

from autounet.dataset import DatasetSpec
from autounet.health.findings import Finding
from autounet.health.measure import Measures
from autounet.health.robust import FEWEST, is_unusual
from autounet.planners.words import count, percent

USUALLY_ONE_PART = 0.9
"""Islands are looked for in classes that are in one part in so many of the cases that have them: lesions, vessels and cells are not."""

TINY = 0.02
"""An island is smaller than this part of the structure's main part, …"""
FAR = 0.1
"""… and farther from it than this part of its extent (the diagonal of its box), …"""
VOXELS_APART, SLICES_APART = 3, 2
"""… than so many voxels along the finest axis, and than so many along the coarsest: closer bits are the structure's own ragged edge."""

RARE_HOLE, RARE_OUTSIDE, RARE_CUT = 0.05, 0.1, 0.05
"""What more cases than these shares of all have is a trait of the data, not a mistake."""

FEWEST_IN_HOLE, LEAST_HOLE = 4, 0.002
"""Smaller holes (voxels, and part of all labelled voxels) do not matter."""

LEAST_OUTSIDE = 0.005
"""So much of what is labelled must be in the air."""

CUT = 0.3
"""A structure is cut off where the outermost plane holds so much of it, relative to its thickest plane: it goes on beyond."""


def find_islands(dataset: DatasetSpec, seen: Sequence[Measures]) -> list[Finding]:
    """Tiny parts far away from a structure that is in one part in most cases: slips of the hand, or of a threshold."""
    found = []
    for position, name in enumerate(dataset.labels.names):
        shapes = [(entry, shape) for entry in seen if (shape := entry.shapes[position]) is not None]
        if len(shapes) < FEWEST or sum(shape.parts == 1 for _, shape in shapes) < USUALLY_ONE_PART * len(shapes):
            continue
        for entry, shape in shapes:
            spacing = entry.grid.spacing_mm_zyx
            far = max(FAR * shape.main_extent_mm, VOXELS_APART * min(spacing), SLICES_APART * max(spacing))
            strays = [part for part in shape.islands if part.voxels <= TINY * shape.main_voxels and part.gap_mm >= far]
            if not strays:
                continue
            farthest = max(strays, key=lambda part: part.gap_mm)
            islands = "an island" if len(strays) == 1 else f"{len(strays)} islands"
            found.append(
                Finding(
                    case=entry.fingerprint.case,
                    kind="island",
                    severity="warning",
                    what=f"'{name}' has {islands} of {count(sum(part.voxels for part in strays), 'voxel')}, {farthest.gap_mm:.0f} "
                    f"{'pixels' if entry.grid.ndim == 2 else 'mm'} from the rest of {count(shape.main_voxels, 'voxel')}; "
                    f"it is in one part in {sum(other.parts == 1 for _, other in shapes)} of {count(len(shapes), 'case')}",
                    advice="remove the island from the label map, unless it is meant",
                    classes=(name,),
                    place_zyx=farthest.place_zyx,
                )
            )
    return found


def find_holes(dataset: DatasetSpec, seen: Sequence[Measures]) -> list[Finding]:
    """Background enclosed in what is labelled, in datasets in which that is rare."""
    judged = [entry for entry in seen if entry.complete]
    holed = []
    for entry in judged:
        labelled = sum(shape.main_voxels for shape in entry.shapes if shape is not None)
        hole = entry.hole
        holed.append(hole if hole is not None and hole.voxels >= max(FEWEST_IN_HOLE, LEAST_HOLE * labelled) else None)
    if not is_unusual([hole is not None for hole in holed], RARE_HOLE):
        return []
    return [
        Finding(
            case=entry.fingerprint.case,
            kind="hole",
            severity="notice",
            what=f"{count(hole.voxels, 'voxel')} of background enclosed in the labelled structures; "
            f"{sum(other is None for other in holed)} of {count(len(holed), 'case')} have no such hole",
            advice="fill the hole in the label map, unless it is meant",
            classes=dataset.labels.names,
            place_zyx=hole.place_zyx,
        )
        for entry, hole in zip(judged, holed, strict=True)
        if hole is not None
    ]


def find_outside(dataset: DatasetSpec, seen: Sequence[Measures]) -> list[Finding]:
    """Labels in the air around the body or on padding, in datasets in which that is rare."""
    judged = [entry for entry in seen if entry.complete]
    outside = [entry.outside if entry.outside is not None and entry.outside.share >= LEAST_OUTSIDE else None for entry in judged]
    if not is_unusual([where is not None for where in outside], RARE_OUTSIDE):
        return []
    found = []
    for entry, where in zip(judged, outside, strict=True):
        if where is None:
            continue
        names = tuple(item.name for item in dataset.labels.classes if set(item.values) & set(where.values))
        found.append(
            Finding(
                case=entry.fingerprint.case,
                kind="outside the body",
                severity="warning",
                what=f"{count(where.voxels, 'labelled voxel')} ({percent(where.share)}; {', '.join(names[:4])}) lie in the air or "
                f"padding around the body; {sum(other is None for other in outside)} of {count(len(outside), 'case')} have none there",
                advice="check that label map and image belong together and are not shifted; remove strokes that slipped",
                classes=names,
                place_zyx=where.place_zyx,
            )
        )
    return found


def find_cut_off(dataset: DatasetSpec, seen: Sequence[Measures]) -> list[Finding]:
    """Structures that end at the border of the image while they are still thick, where those of other cases end before."""
    found = []
    sides = ("first slice", "last slice", "first row", "last row", "first column", "last column")
    for position, name in enumerate(dataset.labels.names):
        shapes = [(entry, shape) for entry in seen if (shape := entry.shapes[position]) is not None]
        cut = [[part >= CUT for part in shape.cut] for _, shape in shapes]
        if not is_unusual([any(sides) for sides in cut], RARE_CUT):
            continue
        for (entry, shape), ends in zip(shapes, cut, strict=True):
            if not any(ends):
                continue
            first = ends.index(True)
            where = ", ".join(f"{side} ({percent(part)})" for side, part, end in zip(sides, shape.cut, ends, strict=True) if end)
            place = list(shape.middle_zyx)
            place[first // 2] = 0 if first % 2 == 0 else entry.grid.shape_zyx[first // 2] - 1
            found.append(
                Finding(
                    case=entry.fingerprint.case,
                    kind="cut off",
                    severity="notice",
                    what=f"'{name}' is cut off by the border of the image: {where} of its thickest plane; it ends before the border in "
                    f"{sum(not any(other) for other in cut)} of {count(len(cut), 'case')}",
                    advice="nothing, if the image was taken so; use the whole image if it was cropped too tightly",
                    classes=(name,),
                    place_zyx=(place[0], place[1], place[2]),
                )
            )
    return found
