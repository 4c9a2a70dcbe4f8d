"""Pictures of predictions beside the truth: only the cases that will be shown are read."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from autounet.evaluation.scores import Scores
from autounet.images import read_image, read_labels
from autounet.labels import LabelSpec
from autounet.report.overlay import ROWS, OverlayRow, describe_choice, overlay_figure, ranked_choice, with_unknown


@dataclass(frozen=True, slots=True)
class Files:
    """The files of one case."""

    image: Path
    truth: Path
    prediction: Path
    annotated: tuple[str, ...] | None = None
    """Names of the classes that are annotated in the truth; None for all."""


def draw_overlays(files: Mapping[str, Files], scores: Scores, labels: LabelSpec, path: Path, title: str) -> bool:
    """Draws image, truth, prediction and errors: all cases, or the worst, median and best ones.

    Nothing is drawn for overlapping regions, which one picture of labels cannot show; the answer says whether it was.
    """
    if labels.overlapping or not files:
        return False
    means = {case: scores.case_mean(case).dice for case in files}
    chosen = ranked_choice(means, ROWS)
    rows = []
    for case in chosen:
        image, grid = read_image(files[case].image)
        truth = labels.encode(read_labels(files[case].truth)[0], case)
        prediction = labels.encode(read_labels(files[case].prediction)[0], case)
        truth = with_unknown(truth, prediction, labels, files[case].annotated)
        dice = {name: score.dice for name, score in scores.cases[case].items()}
        seen, truth, prediction = (np.flip(volume, grid.radiological_flips()) for volume in (image[0], truth, prediction))
        rows.append(OverlayRow(case, seen, truth, prediction, grid.spacing_mm_zyx, dice))
    if len(chosen) < len(files):
        title += f" · {describe_choice(len(chosen), len(files))}"
    overlay_figure(rows, path, labels.names, title)
    return True
