"""What commands print: readable at every width, plain where there is no terminal, the same words in the log."""

import io
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from autounet.cli import console
from autounet.cli.console import Screen, ScreenHandler, TimeLeft, duration, number
from autounet.cli.epochs import epoch_line
from autounet.errors import AutounetError, DatasetError, Problem
from autounet.training.history import EpochRecord

Autounet = Callable[..., Any]


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-1, "0 s"), (0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (200, "3 min 20 s"), (3599.7, "1 h 00 min"), (7500, "2 h 05 min")],
)
def test_duration(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_number() -> None:
    assert (number(0.5), number(None)) == ("0.5000", "–")


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_line_is_wider_than_the_terminal(width: int, trained: Any, autounet: Autounet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    ended = autounet("plan", "-d", trained.volumes, "--runs", trained.runs)
    tables = [line for line in ended.out.splitlines() if line and line[0] in "┏┃┡│└"]
    assert tables
    assert {len(line) for line in tables} <= set(range(width + 1))


def test_without_a_terminal_lines_have_120_columns_and_no_colour(trained: Any, autounet: Autounet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS")
    ended = autounet("plan", "-d", trained.volumes, "--runs", trained.runs)
    assert max(map(len, ended.out.splitlines()[:-1])) == 120
    assert "\x1b" not in ended.out + ended.err


@pytest.mark.parametrize(("no_colour", "coloured"), [("", True), ("1", False)])
def test_colours_are_for_terminals_that_want_them(no_colour: str, coloured: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    if no_colour:
        monkeypatch.setenv("NO_COLOR", no_colour)
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    Screen().error(AutounetError("x: broken"))
    assert ("\x1b[31m" in terminal.getvalue()) == coloured
    assert "error:" in terminal.getvalue()


def test_text_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """Square brackets and colons in a file's name are neither markup nor pictograms."""
    odd = "a[red]b[/]c :x: [link=file]d"
    screen = Screen()
    screen.say(odd)
    screen.warn(odd)
    screen.error(AutounetError(odd))
    screen.result(odd)
    screen.table(odd, (odd,), [(odd,)])
    out, err = capsys.readouterr()
    assert out.count(odd) == 4
    assert err.count(odd) == 3


def test_what_would_move_the_cursor_is_shown_and_not_done(capsys: pytest.CaptureFixture[str]) -> None:
    """Names from strangers' files, in messages and tables; tabs and line breaks are ours."""
    odd = "a\x1b[2J\x07b\tc"
    screen = Screen()
    screen.say(odd)
    screen.warn(odd)
    screen.error(DatasetError(odd, problems=[Problem(odd, odd, odd)]))
    screen.result(odd)
    out, err = capsys.readouterr()
    assert "\x1b" not in out + err
    assert "\x07" not in out + err
    assert out.startswith("a\\x1b[2J\\x07b")


PROBLEMS = [
    Problem(f"case_{number}", f"/data/a long path/to the image_{number}.nii.gz: is damaged", "copy it again") for number in range(70)
]


def test_problems_are_a_table_of_three_columns_or_of_two(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    error = DatasetError("x: 2 problems", problems=PROBLEMS[:2])
    Screen().error(error)
    wide = capsys.readouterr().err.splitlines()
    assert [cell.strip() for cell in wide[2].split("┃")] == ["", "case", "what is wrong", "what to do", ""]
    assert len(wide) == 7
    monkeypatch.setenv("COLUMNS", "70")
    Screen().error(error)
    narrow = capsys.readouterr().err.splitlines()
    assert max(map(len, narrow)) <= 70
    assert [cell.strip() for cell in narrow[2].split("┃")] == ["", "case", "what is wrong, and → what to do", ""]
    assert sum("→ Copy it again" in line for line in narrow) == 2


def test_of_very_many_problems_the_first_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    Screen().error(DatasetError("x: 70 problems", problems=PROBLEMS))
    err = capsys.readouterr().err
    assert "… and 10 more" in err
    assert "case_59" in err
    assert "case_60" not in err


def test_json_is_alone_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen(as_json=True)
    screen.result("words")
    screen.table("title", ("a",), [("b",)])
    screen.say("working")
    screen.json({"name": "Größe", "value": None})
    out, err = capsys.readouterr()
    assert out == '{"name": "Größe", "value": null}\n'
    assert err == "working\n"


def test_quiet_keeps_results_and_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen(quiet=True)
    screen.say("working")
    screen.warn("careful")
    screen.result("done")
    with screen.progress("work", 3) as advance:
        advance()
    assert capsys.readouterr() == ("done\n", "warning: careful\n")


def test_messages_of_the_packages_are_shown_once(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    screen = Screen()
    logger = logging.getLogger("autounet")
    handler = ScreenHandler(screen, logging.WARNING)
    logger.addHandler(handler)
    try:
        with caplog.at_level(logging.INFO, "autounet"):
            logging.getLogger("autounet.training.loop").warning("stale")
            logging.getLogger("autounet.training.loop").info("measured")
            screen.warn("own")
    finally:
        logger.removeHandler(handler)
    assert capsys.readouterr().err == "warning: stale\nwarning: own\n"
    assert [record.getMessage() for record in caplog.records] == ["stale", "measured", "own"]


def test_progress_without_a_terminal_is_a_line_now_and_then(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 15.0, 30.0, 45.0, 60.0, 60.0, 60.0])
    monkeypatch.setattr(console.time, "monotonic", lambda: next(clock))
    with Screen().progress("Reading cases", 4) as advance:
        for _ in range(4):
            advance(1, "case")
    assert capsys.readouterr().err.splitlines() == [
        "Reading cases: 2 of 4, 30 s left",
        "Reading cases: 4 of 4, 0 s left",
        "Reading cases: 4 of 4 in 1 min 00 s",
    ]


def test_the_time_left_follows_the_work_and_not_the_number_of_steps() -> None:
    """One case is as large as 90 others; each unit of work takes a second, the first one ten more for starting up."""
    left = TimeLeft(11, 100.0, now=0.0)
    assert left.seconds(0.0) is None
    left.add(1, 1.0, now=11.0)
    left.add(1, 1.0, now=12.0)
    assert left.seconds(12.0) == pytest.approx(98)
    assert left.seconds(52.0) == pytest.approx(58)  # 40 s into the large one
    left.add(0, 45.0, now=57.0)  # half of it, as it says itself
    assert left.seconds(57.0) == pytest.approx(53)
    left.add(1, 45.0, now=102.0)
    left.add(8, 8.0, now=110.0)
    assert left.seconds(111.0) == 0.0


def test_steps_that_do_not_say_their_work_have_their_share() -> None:
    left = TimeLeft(4, None, now=0.0)
    for second in (10.0, 20.0, 30.0):
        left.add(1, None, now=second)
    assert left.seconds(32.0) == pytest.approx(8)


def test_progress_in_a_terminal_is_one_bar_below_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stderr", terminal)
    screen = Screen()
    with screen.progress("outer", 2) as advance:
        advance(1, "case [1]")
        with screen.progress("inner", 5):
            screen.err.print("between")
            assert screen._live is not None
            assert len(screen._live.tasks) == 2
    assert screen._live is None
    assert "outer" in terminal.getvalue()
    assert "1/2" in terminal.getvalue()
    assert "0:00:00" in terminal.getvalue()


@pytest.mark.parametrize("width", [60, 80, 120])
def test_count_and_times_are_never_cut(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One step a second: after 38 of 114 there are 76 s left. The note gives way."""
    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr("sys.stderr", terminal)
    now = 0.0
    screen = Screen()
    screen.err.get_time = lambda: now  # type: ignore[method-assign]
    note = "loss -0.8123, online Dice 0.756, 2.31 steps a second, 4.1 GB of 11 GB"
    with screen.progress("epoch 12", 114) as advance:
        assert "0:00:00" in shown(screen)
        assert "left" not in shown(screen)  # nothing is known yet
        for _ in range(38):
            now += 1
            advance(1, note)
        line = shown(screen)
    assert len(line) <= width
    assert " 38/114 " in line
    assert "0:00:38, 0:01:16 left" in line
    assert line.endswith("…")


def shown(screen: Screen) -> str:
    """The line of the only task."""
    live = screen._live
    assert live is not None
    paper = io.StringIO()
    Console(file=paper, width=screen.err.width).print(live.make_tasks_table(live.tasks))
    (line,) = paper.getvalue().splitlines()
    return line.rstrip()


def record(dice: dict[str, float | None], validation_loss: float | None = 0.2) -> EpochRecord:
    known = [value for value in dice.values() if value is not None]
    return EpochRecord(
        epoch=99, learning_rate=0.01, train_loss=-0.81234, validation_loss=validation_loss, dice=dice,
        mean_dice=sum(known) / len(known) if known else None, ema_dice=None, seconds=63.0, trained_seconds=6300.0, iterations=250,
        data_wait_share=0.0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("entry", "epochs", "line"),
    [
        (
            record({"Anterior": 0.8123, "Posterior": 0.7}),
            100,
            "epoch 100 of 100: loss -0.812, online Dice 0.756 (Anterior 0.81, …), 1 min 03 s, 2 h 00 min left",
        ),
        (
            record({"cyst": 0.8, "duct": None}),
            None,
            "epoch 100: loss -0.812, online Dice 0.800 (cyst 0.80, duct –), 1 min 03 s, 2 h 00 min left",
        ),
        (
            record({"left ventricle": 0.5, "right ventricle": 0.5, "myocardium": 0.5}),
            None,
            "epoch 100: loss -0.812, online Dice 0.500 (left ventricle 0.50, …), 1 min 03 s, 2 h 00 min left",
        ),
        (record({"cell": 0.8}), None, "epoch 100: loss -0.812, online Dice 0.800, 1 min 03 s, 2 h 00 min left"),
        (record({"cell": None}), None, "epoch 100: loss -0.812, online Dice –, 1 min 03 s, 2 h 00 min left"),
        (record({"cell": None}, None), 1000, "epoch 100 of 1000: loss -0.812, 1 min 03 s, 2 h 00 min left"),
    ],
)
def test_epoch_line(entry: EpochRecord, epochs: int | None, line: str) -> None:
    assert epoch_line(entry, epochs, 7200.0) == line


def test_epoch_line_stays_one_line() -> None:
    many = record({f"structure number {number}": 0.5 for number in range(100)})
    assert len(epoch_line(many, 1000, 7200.0)) <= 100


def test_the_log_has_what_was_shown(trained: Any) -> None:
    log: Path = trained.runs / "Dataset011_Boxes" / "run.log"
    lines = log.read_text(encoding="utf-8").splitlines()
    assert all(line[:4].isdigit() and line[10] == " " for line in lines)
    shown = [line for line in trained.train.err.splitlines() if line.startswith("epoch")]
    assert [line for line in shown if any(entry.endswith(line) for entry in lines)] == shown
    assert any("box | " in line for line in lines)  # the table of scores
