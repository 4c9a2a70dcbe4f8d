"""How the cases lie in their files, and what it means when they do not all lie alike."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from autounet.fingerprint import CaseFingerprint, Fingerprint
from autounet.geometry import Grid
from autounet.image_names import split_ending
from autounet.plan import Decision
from autounet.planners.words import count

ENDINGS_WITHOUT_ORIENTATION = (".tif", ".tiff")
"""Stacks of these know distances at most, not the patient."""

NAMES_SHOWN = 3

_LETTERS = {"L": "left", "R": "right", "A": "front", "P": "back", "S": "head", "I": "feet"}


def orientation_of(grid: Grid, image: Path) -> str:
    """Three letters for the array axes z, y, x (``Grid.orientation``); empty where the file does not know."""
    if grid.ndim == 2 or split_ending(image)[1].lower() in ENDINGS_WITHOUT_ORIENTATION:
        return ""
    return grid.orientation()


def orientation_decision(fingerprint: Fingerprint) -> Decision | None:
    """Tells how the cases are stored, and what it means where they differ; None where the files do not know.

    Nothing is turned: what this decides is to take the axes as they are.
    """
    known = [case for case in fingerprint.cases if case.orientation]
    if not known:
        return None
    counts = Counter(case.orientation for case in known).most_common()
    total = len(fingerprint.cases)
    if len(counts) == 1 and len(known) == total:
        usual = counts[0][0]
        axes = ", ".join(f"{axis} to the {_LETTERS[letter]}" for axis, letter in zip("zyx", usual, strict=True))
        return Decision(
            name="orientation", value=f"{usual} in {total} of {total}", reason=f"the axes run {axes}; they are used as they are"
        )
    shown = [f"{letters} in {number}" for letters, number in counts]
    if len(known) < total:
        shown.append(f"unknown in {total - len(known)}")
    reason = mixed_orientation(fingerprint.cases) or "the others do not say how they lie; the axes are used as they are"
    return Decision(name="orientation", value=f"{', '.join(shown)} of {total}", reason=reason)


def mixed_orientation(cases: Sequence[CaseFingerprint]) -> str | None:
    """Which cases are stored otherwise than most, what that means and what to do; None when all known ones are alike."""
    counts = Counter(case.orientation for case in cases if case.orientation)
    if len(counts) < 2:
        return None
    usual = counts.most_common(1)[0][0]
    others = [case for case in cases if case.orientation and case.orientation != usual]
    names = ", ".join(f"{case.case} ({case.orientation})" for case in others[:NAMES_SHOWN])
    more = "" if len(others) <= NAMES_SHOWN else f" and {count(len(others) - NAMES_SHOWN, 'more case')}"
    verb = "is" if len(others) == 1 else "are"
    return (
        f"{names}{more} {verb} not stored as the others ({usual}); the axes are used as they are, so the network sees both and "
        f"{_meaning({case.orientation for case in cases if case.orientation})}; "
        "store all alike, for instance with SimpleITK's DICOMOrient(image, 'LPS') for images and label maps"
    )


def _meaning(found: set[str]) -> str:
    sideways = {next(axis for axis, letter in enumerate(letters) if letter in "LR") for letters in found}
    if len(sideways) > 1:
        return "must learn every view; across which axis left and right are mirror images differs from case to case"
    (axis,) = sideways
    if len({letters[axis] for letters in found}) > 1:
        return "nothing but the anatomy tells it the patient's left from right"
    return "must learn the body turned or upside down"
