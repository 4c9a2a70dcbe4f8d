"""``autounet evaluate``: score predictions against label maps."""

from pathlib import Path

from autounet.cli.console import number
from autounet.cli.session import Session, check_writable
from autounet.dataset_json import annotated_classes, channels_and_labels, load_description
from autounet.evaluation.folders import evaluate_folders
from autounet.evaluation.scores import Scores
from autounet.evaluation.tables import write_csv
from autounet.labels import LabelSpec
from autounet.planners.words import count

MOST_CASES_SHOWN = 40


def run_evaluate(session: Session, predictions: Path, truths: Path, dataset: str | None, csv: Path | None) -> None:
    """Scores two folders and shows the table."""
    if csv is not None:
        check_writable(csv.parent, "--csv")
    labels, annotated = _labels(session, dataset, truths)
    scores = evaluate_folders(predictions, truths, labels, session.runtime, annotated=annotated)
    if csv is not None:
        write_csv(scores, csv)
    _show_cases(session, scores)
    session.screen.json(scores.to_public())


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
    """A table of Dice by case and class, and the means; of many cases the worst are shown."""
    public = scores.to_public()
    names = list(public["classes"])
    cases = sorted(public["cases"], key=lambda case: scores.case_mean(case).dice or 0.0)
    shown = sorted(cases if len(cases) <= MOST_CASES_SHOWN else cases[:MOST_CASES_SHOWN])
    rows = [[case, *(number(public["cases"][case][name]["dice"]) for name in names), number(scores.case_mean(case).dice)] for case in shown]
    if len(cases) > len(shown):
        rows.append([f"… {len(cases) - len(shown)} better cases", *("" for _ in names), ""])
    rows.append(["mean Dice", *(number(public["classes"][name]["dice"]) for name in names), number(public["mean"]["dice"])])
    rows.append(["mean IoU", *(number(public["classes"][name]["iou"]) for name in names), number(public["mean"]["iou"])])
    session.screen.table(f"Dice of {count(len(cases), 'case')}", ("case", *names, "mean"), rows, right=tuple(range(1, len(names) + 2)))
