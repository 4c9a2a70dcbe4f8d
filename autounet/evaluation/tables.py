"""Scores as files for other programs: CSV with every case and class, LaTeX with the means."""

import csv
import io
import statistics
from collections.abc import Sequence
from pathlib import Path

from autounet.artefact import write_text_atomic
from autounet.evaluation.case import ClassScore
from autounet.evaluation.scores import Scores

LATEX_COLUMNS = {
    "dice": ("Dice", 3),
    "iou": ("IoU", 3),
    "precision": ("Precision", 3),
    "recall": ("Recall", 3),
    "hd95_mm": ("HD95 (mm)", 2),
    "assd_mm": ("ASSD (mm)", 2),
    "nsd": ("NSD", 3),
    "lesion_f1": ("Lesion F1", 3),
    "lesion_dice": ("Lesion Dice", 3),
}
"""Heading and decimals by metric."""

LATEX_ESCAPES = str.maketrans(
    {
        **{character: f"\\{character}" for character in "&%$#_{}"},
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "\\": r"\textbackslash{}",
        "\n": " ",
    }
)


def write_csv(scores: Scores, path: Path) -> None:
    """Writes one row per case and class; undefined scores are empty cells.

    Columns are ``case``, ``class``, those of ``ClassScore``, and, the same in every row, the tolerance and the unit of the volumes.

    Raises:
        ArtefactError: The file cannot be written.
    """
    columns = tuple(ClassScore.model_fields)
    same = (scores.tolerance_mm, scores.volume_unit)
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("case", "class", *columns, "nsd_tolerance_mm", "volume_unit"))
    for case, classes in scores.cases.items():
        table.writerows((case, name, *(getattr(score, column) for column in columns), *same) for name, score in classes.items())
    write_text_atomic(path, text.getvalue())


def write_latex(scores: Scores, path: Path) -> None:
    """Writes a table (``tabular``, with the rules of the package booktabs): mean ± standard deviation over the cases, by class.

    The last row is the mean of the classes' means. A dash stands where nothing is defined; metrics that are defined nowhere have no
    column. Comments say over how many cases the means are.

    Raises:
        ArtefactError: The file cannot be written.
    """
    metrics = [metric for metric in LATEX_COLUMNS if getattr(scores.mean, metric) is not None]
    lines = [
        f"% Scores of {len(scores.cases)} cases by autounet: mean ± standard deviation over the cases in which a score is defined.",
        *(f"% {_comment(name)}: {_cases_behind(scores, name, metrics)}" for name in scores.classes),
        r"% Needs \usepackage{booktabs}.",
        rf"\begin{{tabular}}{{l{'r' * len(metrics)}}}",
        r"\toprule",
        _row("Class", [_heading(metric, scores.tolerance_mm) for metric in metrics]),
        r"\midrule",
        *(_row(name.translate(LATEX_ESCAPES), [_spread(scores, name, metric) for metric in metrics]) for name in scores.classes),
        r"\midrule",
        _row("Mean", [f"{getattr(scores.mean, metric):.{LATEX_COLUMNS[metric][1]}f}" for metric in metrics]),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    write_text_atomic(path, "\n".join(lines) + "\n")


def _row(first: str, cells: Sequence[str]) -> str:
    return " & ".join((first, *cells)) + r" \\"


def _heading(metric: str, tolerance_mm: float | None) -> str:
    title = LATEX_COLUMNS[metric][0]
    return f"{title} ({tolerance_mm:g} mm)" if metric == "nsd" and tolerance_mm is not None else title


def _spread(scores: Scores, name: str, metric: str) -> str:
    """Mean ± standard deviation (n - 1) of a class; without the latter for a single case."""
    values = [value for classes in scores.cases.values() if (value := getattr(classes[name], metric)) is not None]
    if not values:
        return "--"
    decimals = LATEX_COLUMNS[metric][1]
    text = f"{getattr(scores.classes[name], metric):.{decimals}f}"
    return text if len(values) == 1 else rf"{text} $\pm$ {statistics.stdev(values):.{decimals}f}"


def _cases_behind(scores: Scores, name: str, metrics: Sequence[str]) -> str:
    entry = scores.classes[name]
    numbers = ", ".join(f"{LATEX_COLUMNS[metric][0]} of {entry.over[metric]}" for metric in metrics)
    return f"{numbers}; missed in {entry.missed}, invented in {entry.invented}"


def _comment(text: str) -> str:
    return " ".join(text.split())
