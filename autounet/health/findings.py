"""Findings about a dataset, as they are kept, sorted and handed to whoever shows them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from autounet.artefact import Artefact, Frozen
from autounet.geometry import Triple

Severity = Literal["severe", "warning", "notice"]
"""``severe``: what is trained or scored with this is wrong. ``warning``: probably a mistake. ``notice``: unusual, and may be right."""

SEVERITIES: tuple[Severity, ...] = ("severe", "warning", "notice")
"""Worst first."""

Kind = Literal[
    "unusable file",
    "constant image",
    "copy",
    "contradicting copy",
    "copied label map",
    "likeness",
    "exchanged sides",
    "empty label map",
    "missing structure",
    "rare class",
    "size of a structure",
    "island",
    "hole",
    "outside the body",
    "cut off",
    "spacing",
    "size of an image",
    "orientation",
    "slanted slices",
    "brightness",
    "inverted contrast",
]


class Finding(Frozen):
    """One thing that is likely to be wrong."""

    case: str
    """The case concerned; empty for the dataset as a whole."""
    kind: Kind
    severity: Severity
    what: str
    """What was found, and what is usual."""
    advice: str
    """What to do about it."""
    others: tuple[str, ...] = ()
    """Further cases of which the same is said."""
    classes: tuple[str, ...] = ()
    """Names of the classes concerned."""
    place_zyx: Triple | None = None
    """A voxel of the case where it is to be seen; None where a picture would not show it."""
    beside: str | None = None
    """Another case to show beside it: a usual one, or the other of two that are alike."""
    picture: str | None = None
    """Name of the file with the picture, in the folder of pictures."""


class Health(Artefact):
    """All findings about a dataset, worst first."""

    KIND: ClassVar[str] = "health report"
    VERSION: ClassVar[int] = 1

    kind: str = KIND
    schema_version: int = VERSION
    dataset: str
    cases: int
    """How many were looked at."""
    findings: tuple[Finding, ...]
    not_checked: tuple[str, ...] = ()
    """What could not be looked for in this dataset, and why."""

    @property
    def severe(self) -> int:
        """Number of severe findings."""
        return sum(finding.severity == "severe" for finding in self.findings)


@dataclass(frozen=True, slots=True)
class PicturedFinding:
    """A finding with its picture, to be put into a page."""

    case: str
    """Empty for the dataset as a whole."""
    kind: Kind
    severity: Severity
    what: str
    advice: str
    others: tuple[str, ...]
    """Further cases concerned."""
    picture: bytes | None
    """A PNG file's content; None where there is none."""


def pictured(health: Health, folder: Path) -> list[PicturedFinding]:
    """The findings, worst first, with their pictures.

    Args:
        health: What was found.
        folder: Where the pictures are (``RunLayout.health_pictures``); a picture that has gone is left out.
    """
    return [
        PicturedFinding(
            case=finding.case, kind=finding.kind, severity=finding.severity, what=finding.what, advice=finding.advice,
            others=finding.others, picture=_content(folder, finding.picture),
        )
        for finding in health.findings
    ]  # fmt: skip


def worst_first(findings: Sequence[Finding]) -> list[Finding]:
    """By severity, then in the order of ``Kind``; of one kind they stay in the order in which they were found."""
    kinds = list(Kind.__args__)  # type: ignore[attr-defined]
    return sorted(findings, key=lambda finding: (SEVERITIES.index(finding.severity), kinds.index(finding.kind)))


def _content(folder: Path, name: str | None) -> bytes | None:
    try:
        return None if name is None else (folder / name).read_bytes()
    except OSError:
        return None
