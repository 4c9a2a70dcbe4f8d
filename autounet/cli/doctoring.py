"""``autounet doctor``: what is likely to be wrong with a dataset, worst first, and what to do about it."""

from collections import Counter
from collections.abc import Sequence

import typer

from autounet.cli.folding import planned_splits
from autounet.cli.session import Session, alone, recorded
from autounet.cli.stages import load_dataset
from autounet.dataset import DatasetSpec
from autounet.errors import ArtefactError, DatasetError, UsageError
from autounet.health.examine import examine, made_from
from autounet.health.findings import SEVERITIES, Finding, Health
from autounet.health.pictures import draw_pictures
from autounet.layout import RunLayout
from autounet.planners.words import count
from autounet.splits import Split

MOST_OF_A_KIND = 6
"""So many findings of one kind have a row of their own."""

MOST_OTHERS = 5
"""So many further cases of a finding are named."""


def run_doctor(session: Session, dataset: str | None) -> None:
    """Examines a dataset and shows the findings; ends with 1 when some are severe."""
    if dataset is None:
        raise UsageError("nothing to examine", remedy="give -d DATASET (what this machine can do is not told yet)")
    spec, layout = load_dataset(session, dataset)
    with recorded(session, layout), alone(session, layout):
        health, is_new = fresh_health(session, spec, layout)
        _show(session, health)
        pictures = sum(finding.picture is not None for finding in health.findings)
        where = f"{layout.health}" + (f"; {count(pictures, 'picture')} in {layout.health_pictures}" if pictures else "")
        session.screen.result(f"{'Written to' if is_new else 'Up to date:'} {where}")
        session.screen.json(health.model_dump(mode="json"))
    if health.severe:
        raise typer.Exit(1)


def fresh_health(session: Session, dataset: DatasetSpec, layout: RunLayout) -> tuple[Health, bool]:
    """The findings about a dataset, made anew if its files or folds have changed or a picture is missing; and whether they were."""
    folds = planned_folds(dataset, layout)
    try:
        there = Health.load(layout.health)
        pictures = [layout.health_pictures / finding.picture for finding in there.findings if finding.picture is not None]
        if there.made_from == made_from(dataset, folds) and all(path.is_file() for path in pictures):
            return there, False
    except ArtefactError as error:
        if layout.health.exists():
            session.screen.warn(f"{error.what}; it is made anew")
    health = draw_pictures(examine(dataset, folds, session.runtime), dataset, layout.health_pictures, session.runtime)
    health.save(layout.health)
    return health, True


def planned_folds(dataset: DatasetSpec, layout: RunLayout) -> tuple[Split, ...]:
    """The folds that training would take; none where it would refuse: too few cases, or damaged folds, of which `autounet train` tells."""
    try:
        return planned_splits(dataset, layout).folds
    except (ArtefactError, DatasetError):
        return ()


def _show(session: Session, health: Health) -> None:
    title = f"{health.dataset}: {count(health.cases, 'case')} examined"
    for what in health.not_checked:
        session.screen.result(f"Not examined: {what}")
    if not health.findings:
        session.screen.result(f"{title}, nothing found")
        return
    kinds = Counter(finding.kind for finding in health.findings)
    seen: Counter[str] = Counter()
    rows: list[tuple[str, str, str, str]] = []
    told = ""
    for finding in health.findings:
        seen[finding.kind] += 1
        if seen[finding.kind] <= MOST_OF_A_KIND:
            # The same advice many times over would hide what differs.
            advice = "" if finding.advice == told else f"\n→ {finding.advice[0].upper()}{finding.advice[1:]}"
            rows.append((finding.severity, finding.kind, _cases(finding), finding.what + advice))
            told = finding.advice
        elif seen[finding.kind] == MOST_OF_A_KIND + 1:
            left = [other.case or other.classes[0] for other in health.findings if other.kind == finding.kind][MOST_OF_A_KIND:]
            rows.append((finding.severity, finding.kind, f"{kinds[finding.kind] - MOST_OF_A_KIND} more", _listed(left)))
    numbers = Counter(finding.severity for finding in health.findings)
    found = ", ".join(f"{numbers[severity]} {_plural(severity, numbers[severity])}" for severity in SEVERITIES if numbers[severity])
    session.screen.table(f"{title}: {found}", ("", "kind", "case", "what was found, and → what to do"), rows)


def _cases(finding: Finding) -> str:
    if not finding.case:
        return "all"
    more = len(finding.others) - MOST_OTHERS
    # One below the other, as a wide column would leave no room for what was found.
    return "\n".join([finding.case, *finding.others[:MOST_OTHERS], *([f"and {more} more"] if more > 0 else [])])


def _listed(cases: Sequence[str], most: int = 12) -> str:
    return ", ".join(cases[:most]) + (", …" if len(cases) > most else "")


def _plural(severity: str, number: int) -> str:
    return "severe" if severity == "severe" else severity if number == 1 else f"{severity}s"
