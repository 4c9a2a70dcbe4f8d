"""Which model was selected and why, as the page shows it."""

from dataclasses import dataclass

from autounet.bundle_text import describe_steps
from autounet.plan import Plan
from autounet.postprocessing import Postprocessing, Step
from autounet.report.evidence import Evidence
from autounet.selection import Decision, Interval


@dataclass(frozen=True, slots=True)
class CandidateRow:
    """One candidate, and how it differs from the best."""

    name: str
    chosen: bool
    dice: str
    interval: str
    classes: tuple[str, ...]
    cost: str
    difference: str
    """Best minus this one; empty for the best itself."""
    p_value: str


@dataclass(frozen=True, slots=True)
class StepRow:
    """One step of postprocessing that was tried."""

    what: str
    kept: bool
    before: str
    after: str
    worse: str


@dataclass(frozen=True, slots=True)
class SelectionSection:
    """All of it."""

    chosen: str
    reason: str
    rule: str
    cases: int
    class_names: tuple[str, ...]
    candidates: tuple[CandidateRow, ...]
    kept: tuple[str, ...]
    """Steps of postprocessing that were kept, in words."""
    steps: tuple[StepRow, ...]
    """All that were tried."""
    before: str
    after: str
    missing: tuple[str, ...]
    correlation: str
    """Of expected and true Dice; empty where it was not measured."""


def selection_section(evidence: Evidence) -> SelectionSection | None:
    """The section; None before a selection."""
    selection, plan = evidence.selection, evidence.plan
    if selection is None:
        return None
    differences = {entry.second: entry for entry in selection.comparisons}
    rows = []
    for entry in selection.candidates:
        compared = differences.get(entry.name)
        rows.append(
            CandidateRow(
                entry.name,
                entry.name == selection.chosen,
                "–" if entry.dice is None else f"{entry.dice.value:.4f}",
                _limits(entry.dice),
                tuple(_number(value) for value in entry.classes.values()),
                f"{entry.cost:,.3g}" if entry.cost < 1000 else f"{entry.cost:,.0f}",
                "" if compared is None else f"{compared.difference.value:+.4f} {_limits(compared.difference)}",
                "" if compared is None else "–" if compared.p_value is None else f"{compared.p_value:.2g}",
            )
        )
    names = tuple(selection.candidates[0].classes) if selection.candidates else ()
    correlation = selection.confidence_rank_correlation
    return SelectionSection(
        selection.chosen,
        selection.reason,
        selection.rule,
        selection.cases,
        names,
        tuple(rows),
        tuple(_words(plan, step) for step in selection.postprocessing),
        tuple(_step_row(plan, entry) for entry in selection.decisions),
        _number(selection.dice_before),
        _number(selection.dice_after),
        selection.missing,
        "" if correlation is None else f"{correlation:.2f}",
    )


def _step_row(plan: Plan | None, entry: Decision) -> StepRow:
    return StepRow(_words(plan, entry.step), entry.kept, _number(entry.mean_before), _number(entry.mean_after), ", ".join(entry.worse))


def _words(plan: Plan | None, step: Step) -> str:
    """What a step does; without a plan the names of its labels are not known."""
    if plan is None:
        return f"{step.kind.replace('_', ' ')}, labels {', '.join(map(str, step.values))}"
    return describe_steps(plan, Postprocessing(made_from={}, steps=(step,)))[0]


def _limits(interval: Interval | None) -> str:
    return "" if interval is None else f"[{interval.low:.4f}, {interval.high:.4f}]"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
