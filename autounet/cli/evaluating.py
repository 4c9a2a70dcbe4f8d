"""``autounet evaluate``: score predictions against label maps."""

import math
import re
from dataclasses import dataclass
from pathlib import Path

from autounet.cli.console import number
from autounet.cli.session import Session, check_writable
from autounet.dataset_json import annotated_classes, channels_and_labels, load_description
from autounet.errors import UsageError
from autounet.evaluation.folders import evaluate_folders
from autounet.evaluation.scores import ClassMean, MeanScore, Scores
from autounet.evaluation.tables import write_csv, write_latex
from autounet.labels import LabelSpec
from autounet.planners.words import count

MOST_CASES_SHOWN = 40
NUMBER_WIDTH = 6
"""Characters of a score in a table."""


@dataclass(frozen=True, slots=True)
class Outputs:
    """Files that are asked for."""

    csv: Path | None
    latex: Path | None

    def check(self) -> None:
        """Refuses, before the work, what could not be written. Raises AutounetError."""
        for path, option in ((self.csv, "--csv"), (self.latex, "--latex")):
            if path is not None:
                check_writable(path.parent, option)

    def write(self, scores: Scores) -> None:
        """Writes what is asked for. Raises ArtefactError."""
        if self.csv is not None:
            write_csv(scores, self.csv)
        if self.latex is not None:
            write_latex(scores, self.latex)


def run_evaluate(
    session: Session, predictions: Path, truths: Path, dataset: str | None, outputs: Outputs, tolerance: str, present_only: bool = False
) -> None:
    """Scores two folders and shows the tables; with ``present_only`` the truths that have a prediction."""
    tolerance_mm = parse_tolerance(tolerance)
    outputs.check()
    labels, annotated = _labels(session, dataset, truths)
    scores = evaluate_folders(
        predictions, truths, labels, session.runtime, annotated=annotated, tolerance_mm=tolerance_mm, present_only=present_only
    )
    outputs.write(scores)
    _show_cases(session, scores)
    _show_classes(session, scores)
    session.screen.json(scores.to_public())


def parse_tolerance(text: str) -> float:
    """``1mm``, ``0.5 mm``, ``2`` → mm. Raises UsageError."""
    match = re.fullmatch(r"(\d*\.?\d+(?:e-?\d+)?)\s*(?:mm)?", text.strip().lower())
    value = float(match.group(1)) if match else math.nan
    if not math.isfinite(value):
        raise UsageError(f"--tolerance {text}: not a length", expected="millimetres, such as 1mm or 0.5mm")
    return value


def _labels(session: Session, dataset: str | None, truths: Path) -> tuple[LabelSpec | None, dict[str, tuple[str, ...]]]:
    """What the values mean, and the annotated classes of cases that do not have all."""
    path = (truths.resolve().parent if dataset is None else session.dataset_folder(dataset)) / "dataset.json"
    if dataset is None and not path.is_file():
        session.screen.say("no dataset.json beside the label folder and no -d: classes are named by their values")
        return None, {}
    raw = load_description(path)
    labels = channels_and_labels(raw, path)[1]
    return labels, annotated_classes(raw, labels, path)


def _show_cases(session: Session, scores: Scores) -> None:
    """A table of Dice by case and class; of many cases the worst are shown, and of many classes the worst of each case."""
    names = list(scores.classes)
    cases = sorted(scores.cases, key=lambda case: scores.case_mean(case).dice or 0.0)
    shown = sorted(cases if len(cases) <= MOST_CASES_SHOWN else cases[:MOST_CASES_SHOWN])
    left_out = [f"… {len(cases) - len(shown)} better cases"] if len(cases) > len(shown) else []
    longest = max((len(text) for text in (*shown, *left_out, "mean Dice")), default=0)
    # Every column has a border and two blanks.
    width = longest + sum(max(len(name), NUMBER_WIDTH) + 3 for name in names) + NUMBER_WIDTH + 7
    title, columns = f"Dice of {count(len(cases), 'case')}", ["case", *names, "mean"]
    if width > session.screen.out.width:
        columns = ["case", "worst class", "Dice of it", "mean"]
        rows = [[case, *_worst_class(scores, case), number(scores.case_mean(case).dice)] for case in shown]
        rows += [[text, "", "", ""] for text in left_out] + [["mean Dice", "", "", number(scores.mean.dice)]]
        session.screen.table(title, columns, rows, right=(2, 3))
        return
    rows = [[case, *(number(scores.cases[case][name].dice) for name in names), number(scores.case_mean(case).dice)] for case in shown]
    rows += [[text, *("" for _ in names), ""] for text in left_out]
    rows.append(["mean Dice", *(number(scores.classes[name].dice) for name in names), number(scores.mean.dice)])
    session.screen.table(title, columns, rows, right=tuple(range(1, len(names) + 2)))


def _worst_class(scores: Scores, case: str) -> tuple[str, str]:
    """Name and Dice of the class that was found worst in a case."""
    defined = {name: score.dice for name, score in scores.cases[case].items() if score.dice is not None}
    if not defined:
        return "–", number(None)
    worst = min(defined, key=lambda name: defined[name])
    return worst, number(defined[worst])


def _show_classes(session: Session, scores: Scores) -> None:
    """Two tables of the means by class, each for 80 columns, and what the means of the distances leave out."""
    entries: list[tuple[str, MeanScore]] = [*scores.classes.items(), ("mean", scores.mean)]
    overlap = [
        [
            name, number(entry.dice), number(entry.iou), number(entry.precision), number(entry.recall),
            str(entry.over["dice"]) if isinstance(entry, ClassMean) else "",
        ]
        for name, entry in entries
    ]  # fmt: skip
    session.screen.table("Overlap", ("class", "Dice", "IoU", "precision", "recall", "cases"), overlap, right=(1, 2, 3, 4, 5))
    shapes = [
        [name, _mm(entry.hd95_mm), _mm(entry.assd_mm), number(entry.nsd), number(entry.lesion_f1), number(entry.lesion_dice)]
        for name, entry in entries
    ]
    title = f"Surfaces and lesions (NSD: normalised surface Dice at {scores.tolerance_mm:g} mm)"
    session.screen.table(title, ("class", "HD95 mm", "ASSD mm", "NSD", "lesion F1", "lesion Dice"), shapes, right=(1, 2, 3, 4, 5))
    defined = [entry for classes in scores.cases.values() for entry in classes.values() if entry.dice is not None]
    if any(entry.nsd is None for entry in defined):
        session.screen.result("Surfaces and lesions are not measured in cases that have voxels to be ignored")
    for name, entry in scores.classes.items():
        if entry.missed or entry.invented:
            rest = count(entry.over["hd95_mm"], "case")
            session.screen.result(f"{name}: missed in {entry.missed}, invented in {entry.invented}; distances are means of {rest}")


def _mm(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
