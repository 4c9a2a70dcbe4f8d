"""What the examination of the dataset has found, as the page shows it."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from autounet.planners.words import count
from autounet.report.evidence import Evidence

MOST_FINDINGS = 80
"""So many of the worst are shown."""

MOST_PICTURE_BYTES = 2_000_000
"""Of all pictures together; findings beyond have none."""

MOST_CASES = 8
"""So many further cases of a finding are named."""


@dataclass(frozen=True, slots=True)
class ShownFinding:
    """One finding."""

    case: str
    kind: str
    severity: str
    what: str
    advice: str
    others: str
    picture: str
    """A data URL; empty where there is none."""


@dataclass(frozen=True, slots=True)
class FindingsSection:
    """All of them."""

    examined: int
    """Cases; 0 where nobody has looked yet."""
    shown: tuple[ShownFinding, ...]
    left_out: int
    not_checked: tuple[str, ...]


def findings_section(evidence: Evidence) -> FindingsSection:
    """The worst findings with their pictures, as many of these as there is room for."""
    room, shown = MOST_PICTURE_BYTES, []
    for finding in evidence.findings[:MOST_FINDINGS]:
        picture = ""
        if finding.picture is not None and len(finding.picture) * 4 // 3 < room:
            picture = f"data:image/png;base64,{base64.b64encode(finding.picture).decode('ascii')}"
            room -= len(picture)
        others = _some(finding.others)
        shown.append(ShownFinding(finding.case, finding.kind, finding.severity, finding.what, finding.advice, others, picture))
    left_out = len(evidence.findings) - len(shown)
    if evidence.health is None:
        return FindingsSection(0, (), 0, ())
    return FindingsSection(evidence.health.cases, tuple(shown), left_out, evidence.health.not_checked)


def _some(cases: Sequence[str]) -> str:
    more = len(cases) - MOST_CASES
    return ", ".join(cases[:MOST_CASES]) + (f" and {count(more, 'more case')}" if more > 0 else "")
