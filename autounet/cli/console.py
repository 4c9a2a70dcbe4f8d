"""What the user sees: progress, tables, messages; plain lines where there is no terminal."""

import json
import logging
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from autounet.errors import AutounetError, DatasetError
from autounet.runtime import Advance

PLAIN_SECONDS = 10.0
"""Without a terminal a line about progress appears at most this often."""

MOST_PROBLEMS = 60


class Screen:
    """Everything a command shows. Results go to standard output, all else to standard error.

    Args:
        quiet: Show results, warnings and errors only.
        as_json: The result is one JSON object on standard output.
    """

    def __init__(self, quiet: bool = False, as_json: bool = False) -> None:
        self.quiet, self.as_json = quiet, as_json
        width = None if sys.stdout.isatty() else 120
        self.out = Console(highlight=False, soft_wrap=False, width=width)
        self.err = Console(stderr=True, highlight=False, width=None if sys.stderr.isatty() else 120)
        self._live: Progress | None = None

    def say(self, text: str) -> None:
        """A line about what is being done."""
        if not self.quiet:
            self.err.print(escape(text), soft_wrap=True)

    def warn(self, text: str) -> None:
        """A line the user should not miss."""
        self.err.print(f"[yellow]warning:[/] {escape(text)}", soft_wrap=True)

    def result(self, text: str) -> None:
        """A line of the result, unless it is asked for as JSON."""
        if not self.as_json:
            self.out.print(escape(text), soft_wrap=True)

    def json(self, value: Any) -> None:
        """The result as JSON, if it was asked for so."""
        if self.as_json:
            sys.stdout.write(json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n")

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> None:
        """A table of the result; columns numbered in ``right`` hold numbers."""
        if not self.as_json:
            self.out.print(f"\n[bold]{escape(title)}[/]")
            self.out.print(_table(columns, rows, right))

    def error(self, error: AutounetError) -> None:
        """An error, with a table of all problems where it has several."""
        self.err.print(f"[red]error:[/] {escape(str(error))}", soft_wrap=True)
        if isinstance(error, DatasetError) and error.problems:
            shown = error.problems[:MOST_PROBLEMS]
            rows = [(problem.case, problem.what, problem.remedy) for problem in shown]
            self.err.print(_table(("case", "what is wrong", "what to do"), rows, ()))
            if len(error.problems) > len(shown):
                self.err.print(f"… and {len(error.problems) - len(shown)} more")

    @contextmanager
    def progress(self, title: str, total: int) -> Iterator[Advance]:
        """A progress bar with time left; a task inside another task is drawn below it."""
        if self.quiet or total == 0:
            yield lambda steps=1, note="": None
        elif self.err.is_terminal:
            yield from self._bar(title, total)
        else:
            yield from self._lines(title, total)

    def _bar(self, title: str, total: int) -> Iterator[Advance]:
        outer = self._live is None
        if self._live is None:
            columns = (
                TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
                TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.fields[note]}", style="dim"),
            )  # fmt: skip
            self._live = Progress(*columns, console=self.err, transient=True)
            self._live.start()
        live = self._live
        task: TaskID = live.add_task(escape(title), total=total, note="")

        def advance(steps: int = 1, note: str = "") -> None:
            live.update(task, advance=steps, note=escape(note))

        try:
            yield advance
        finally:
            live.remove_task(task)
            if outer:
                live.stop()
                self._live = None

    def _lines(self, title: str, total: int) -> Iterator[Advance]:
        began = said = time.monotonic()
        done = 0

        def advance(steps: int = 1, note: str = "") -> None:
            nonlocal done, said
            done += steps
            now = time.monotonic()
            if now - said >= PLAIN_SECONDS and done:
                said = now
                left = (now - began) / done * (total - done)
                self.say(f"{title}: {done} of {total}, {duration(left)} left")

        yield advance
        if done == total and time.monotonic() - began >= 2:
            self.say(f"{title}: {total} of {total} in {duration(time.monotonic() - began)}")


class ScreenHandler(logging.Handler):
    """Sends the packages' log messages to the screen."""

    def __init__(self, screen: Screen) -> None:
        super().__init__()
        self._screen = screen

    def emit(self, record: logging.LogRecord) -> None:
        """Warnings stand out."""
        if record.levelno >= logging.WARNING:
            self._screen.warn(record.getMessage())
        else:
            self._screen.say(record.getMessage())


def duration(seconds: float) -> str:
    """Seconds in words: ``45 s``, ``3 min 20 s``, ``2 h 05 min``."""
    whole = round(max(seconds, 0))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def number(value: float | None) -> str:
    """A score with four digits; a dash where it is undefined."""
    return "–" if value is None else f"{value:.4f}"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int]) -> Table:
    table = Table()
    for position, column in enumerate(columns):
        table.add_column(column, justify="right" if position in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    return table
