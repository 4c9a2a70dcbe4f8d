"""What is said and drawn while a fold trains, and its scores at the end."""

import time
from collections.abc import Sequence

from autounet.cli.console import duration, number
from autounet.cli.session import Session
from autounet.evaluation.scores import Scores
from autounet.layout import FoldLayout
from autounet.planners.words import count
from autounet.report.figures import progress_figure
from autounet.training.history import EpochRecord

EPOCH_WIDTH = 100
"""Columns of an epoch's line with the Dice of its classes."""

DRAWING_PAUSE = 50
"""The curves are drawn again after so many times what drawing took: at most 2 % of the time."""


class EpochReport:
    """Says what an epoch brought, and draws the curves: rarely enough that drawing takes little of the time.

    Args:
        session: Where to say it.
        layout: Where the picture goes.
        title: Of the picture.
        epochs: How many there will be; None where a budget decides.
    """

    def __init__(self, session: Session, layout: FoldLayout, title: str, epochs: int | None) -> None:
        self._session, self._layout, self._title, self._epochs = session, layout, title, epochs
        self._next_drawing = 0.0

    def __call__(self, history: Sequence[EpochRecord], seconds_left: float) -> None:
        """One line per epoch."""
        self._session.screen.say(epoch_line(history[-1], self._epochs, seconds_left))
        now = time.monotonic()
        if now >= self._next_drawing:
            self.draw(history)
            self._next_drawing = time.monotonic() + DRAWING_PAUSE * (time.monotonic() - now)

    def draw(self, history: Sequence[EpochRecord]) -> None:
        """Draws the curves."""
        progress_figure([record.model_dump(mode="json") for record in history], self._layout.progress, self._title)


def epoch_line(last: EpochRecord, epochs: int | None, seconds_left: float) -> str:
    """An epoch in at most ``EPOCH_WIDTH`` characters: the mean Dice always, that of the single classes as far as there is room."""
    begin = f"epoch {last.epoch + 1}{f' of {epochs}' if epochs is not None else ''}: loss {last.train_loss:.3f}"
    end = f", {duration(last.seconds)}, {duration(seconds_left)} left"
    if last.validation_loss is None:
        return begin + end  # trained on all cases: there is nothing to take a Dice of
    begin += f", online Dice {'–' if last.mean_dice is None else f'{last.mean_dice:.3f}'}"
    classes = [f"{name} {'–' if value is None else f'{value:.2f}'}" for name, value in last.dice.items()]
    for shown in range(len(classes) if len(classes) > 1 else 0, 0, -1):
        listed = f" ({', '.join(classes[:shown])}{', …' if shown < len(classes) else ''})"
        if len(begin + listed + end) <= EPOCH_WIDTH:
            return begin + listed + end
    return begin + end


NOTHING = 0.01
"""A mean Dice below this is no model."""


def show_scores(session: Session, scores: Scores, title: str) -> None:
    """Mean Dice and IoU of every class, and of all."""
    public = scores.to_public()
    rows = [(name, number(entry["dice"]), number(entry["iou"])) for name, entry in public["classes"].items()]
    rows.append(("mean", number(public["mean"]["dice"]), number(public["mean"]["iou"])))
    session.screen.table(f"{title} ({count(len(public['cases']), 'case')})", ("class", "Dice", "IoU"), rows, right=(1, 2))
    if scores.mean.dice is not None and scores.mean.dice < NOTHING:
        session.screen.warn("next to nothing of the structures is found: train longer, or look at the data with `autounet doctor`")
