"""What the user sees: progress, tables, messages; plain lines where there is no terminal."""

import json
import logging
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.table import Column, Table
from rich.text import Text

from autounet.errors import AutounetError, DatasetError, Problem, printable
from autounet.runtime import Advance

PLAIN_SECONDS = 20.0
"""Without a terminal a line about progress appears at most this often, and a last one for what took half as long."""

PLAIN_WIDTH = 120
"""Columns without a terminal, unless COLUMNS says otherwise."""

MOST_PROBLEMS = 60

log = logging.getLogger(__name__)


class TimeLeft:
    """How long a task will still take: as long for each piece of its work as for those that are done.

    Args:
        total: Steps of the task.
        work: All of it, in any unit; None where all steps are alike.
        now: In seconds, of any clock.
    """

    def __init__(self, total: int, work: float | None, now: float) -> None:
        self._total, self._work, self._done = total, work or total, 0.0
        self._began = self._latest = now
        self._first: tuple[float, float] | None = None

    def add(self, steps: int, work: float | None, now: float) -> None:
        """Steps are done, and so much of the work with them; None for their share."""
        self._done = min(self._done + (self._work * steps / self._total if work is None else work), self._work)
        self._latest = now
        if self._first is None and self._done:
            self._first = self._done, now

    def seconds(self, now: float) -> float | None:
        """From now on; None until something is done. It falls while a long piece is under way, too."""
        if self._first is None:
            return None
        # The first piece waits for libraries and for files to be found: as soon as there are others, they tell the pace.
        done, began = self._first if self._first[0] < self._done else (0.0, self._began)
        pace = (self._latest - began) / (self._done - done)
        return max(pace * (self._work - self._done) - (now - self._latest), 0.0)


class TimesColumn(ProgressColumn):
    """What a task took so far, and what is left of it: ``0:00:38, 0:01:20 left``."""

    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        """The first alone until the rest can be guessed."""
        seconds = task.fields["left"].seconds(task.get_time())
        left = "" if seconds is None else f", {timedelta(seconds=int(seconds))} left"
        return Text(f"{timedelta(seconds=int(task.elapsed or 0))}{left}")


class NoteColumn(ProgressColumn):
    """The note of a task. Where there is no room for the whole line this is what is cut: rich shortens columns that may wrap."""

    def __init__(self) -> None:
        super().__init__(Column(no_wrap=False))

    def render(self, task: Task) -> Text:
        """One line, whatever its width."""
        return Text(task.fields["note"], style="dim", no_wrap=True, overflow="ellipsis")


class PipedConsole(Console):
    """A console whose reader may go away early (``| head``), which is no failure."""

    def on_broken_pipe(self) -> None:
        """Ends the command quietly."""
        self.quiet = True
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (what is still buffered has nowhere to go)
        raise SystemExit(0)


class Screen:
    """Everything a command shows. Results go to standard output, all else to standard error, and both to the log.

    Args:
        quiet: Show results, warnings and errors only.
        as_json: The result is one JSON object on standard output.
        silent: Show errors only: another process says the rest.
    """

    def __init__(self, quiet: bool = False, as_json: bool = False, silent: bool = False) -> None:
        self.quiet, self.as_json, self._silent = quiet or silent, as_json, silent
        self.out = PipedConsole(highlight=False, emoji=False, width=_width(sys.stdout))
        self.err = Console(stderr=True, highlight=False, emoji=False, width=_width(sys.stderr))
        self.out.quiet = silent
        self._live: Progress | None = None

    def say(self, text: str) -> None:
        """A line about what is being done."""
        _to_log(logging.INFO, text)
        self.show(text)

    def warn(self, text: str) -> None:
        """A line the user should not miss."""
        _to_log(logging.WARNING, text)
        self.show_warning(text)

    def result(self, text: str) -> None:
        """A line of the result, unless it is asked for as JSON."""
        _to_log(logging.INFO, text.strip())
        if not self.as_json:
            self.out.print(_printable(text), soft_wrap=True)

    def show(self, text: str) -> None:
        """As ``say``, but not for the log."""
        if not self.quiet:
            self.err.print(_printable(text), soft_wrap=True)

    def show_warning(self, text: str) -> None:
        """As ``warn``, but not for the log."""
        if not self._silent:
            self.err.print(f"[yellow]warning:[/] {_printable(text)}", soft_wrap=True)

    def json(self, value: Any) -> None:
        """The result as JSON, if it was asked for so."""
        if self.as_json:
            sys.stdout.write(json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n")

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> None:
        """A table of the result; columns numbered in ``right`` hold numbers."""
        _to_log(logging.INFO, title)
        for row in (columns, *rows):
            _to_log(logging.INFO, "  " + " | ".join(row))
        if not self.as_json:
            self.out.print(f"\n[bold]{escape(title)}[/]")
            self.out.print(_table(columns, rows, right))

    def error(self, error: AutounetError) -> None:
        """An error, with a table of all problems where it has several."""
        self.err.print(f"[red]error:[/] {_printable(str(error))}", soft_wrap=True)
        if isinstance(error, DatasetError) and error.problems:
            self.err.print(self._problems(error.problems[:MOST_PROBLEMS]))
            if len(error.problems) > MOST_PROBLEMS:
                self.err.print(f"… and {len(error.problems) - MOST_PROBLEMS} more")

    def _problems(self, problems: Sequence[Problem]) -> Table:
        """A table of three columns where they fit on the lines, else of two, with the remedies below the findings."""
        rows = [(problem.case, problem.what, problem.remedy) for problem in problems]
        table = _table(("case", "what is wrong", "what to do"), rows, ())
        if self.err.measure(table, options=self.err.options.update(max_width=10_000)).maximum <= self.err.width:
            return table
        narrow = [(case, f"{what}\n→ {remedy[:1].upper()}{remedy[1:]}") for case, what, remedy in rows]
        return _table(("case", "what is wrong, and → what to do"), narrow, ())

    @contextmanager
    def progress(self, title: str, total: int, work: float | None = None) -> Iterator[Advance]:
        """A progress bar with the time it took and the time left; a task inside another task is drawn below it.

        ``work`` is all of the task's work, in any unit, where its steps are not alike.
        """
        if self.quiet or total == 0:
            yield lambda steps=1, note="", work=None: None
        elif self.err.is_terminal:
            yield from self._bar(title, total, work)
        else:
            yield from self._lines(title, total, work)

    def _bar(self, title: str, total: int, all_work: float | None) -> Iterator[Advance]:
        outer = self._live is None
        if self._live is None:
            whole = Column(no_wrap=True)
            bar = BarColumn(20 if self.err.width >= 80 else 8, table_column=whole)
            columns = (TextColumn("{task.description}"), bar, MofNCompleteColumn(table_column=whole), TimesColumn(whole), NoteColumn())
            self._live = Progress(*columns, console=self.err, transient=True)
            self._live.start()
        live = self._live
        left = TimeLeft(total, all_work, self.err.get_time())
        task: TaskID = live.add_task(escape(title), total=total, note="", left=left)

        def advance(steps: int = 1, note: str = "", work: float | None = None) -> None:
            left.add(steps, work, self.err.get_time())
            live.update(task, advance=steps, note=note)

        try:
            yield advance
        finally:
            live.remove_task(task)
            if outer:
                live.stop()
                self._live = None

    def _lines(self, title: str, total: int, all_work: float | None) -> Iterator[Advance]:
        began = said = time.monotonic()
        done, left = 0, TimeLeft(total, all_work, began)

        def advance(steps: int = 1, note: str = "", work: float | None = None) -> None:
            nonlocal done, said
            done += steps
            now = time.monotonic()
            left.add(steps, work, now)
            seconds = left.seconds(now)
            if now - said >= PLAIN_SECONDS and seconds is not None:
                said = now
                self.show(f"{title}: {done} of {total}, {duration(seconds)} left")

        yield advance
        if done == total and time.monotonic() - began >= PLAIN_SECONDS / 2:
            self.say(f"{title}: {total} of {total} in {duration(time.monotonic() - began)}")


class ScreenHandler(logging.Handler):
    """Sends the packages' log messages of this level and above to the screen."""

    def __init__(self, screen: Screen, level: int) -> None:
        super().__init__(level)
        self._screen = screen

    def emit(self, record: logging.LogRecord) -> None:
        """Warnings stand out; what the screen has shown already is passed over."""
        if getattr(record, "shown", False):
            return
        if record.levelno >= logging.WARNING:
            self._screen.show_warning(record.getMessage())
        else:
            self._screen.show(record.getMessage())


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


def _to_log(level: int, text: str) -> None:
    log.log(level, "%s", text, extra={"shown": True})


def _printable(text: str) -> str:
    """Text for the terminal as it stands: no markup of ours, and nothing of strangers' that would move the cursor."""
    return escape(printable(text))


def _width(stream: Any) -> int | None:
    """Columns; None lets rich ask the terminal or COLUMNS."""
    return None if stream.isatty() or os.environ.get("COLUMNS", "").isdecimal() else PLAIN_WIDTH


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int]) -> Table:
    table = Table()
    for position, column in enumerate(columns):
        table.add_column(escape(column), justify="right" if position in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_printable(cell) for cell in row))
    return table
