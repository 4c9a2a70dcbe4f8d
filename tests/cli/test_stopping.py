"""Wishes to stop a training: signals and a file."""

import os
import signal
import threading
import time
from contextlib import nullcontext
from pathlib import Path

import pytest

import autounet.cli.stopping as stopping_module
from autounet.cli.stopping import stop_wishes


@pytest.fixture(autouse=True)
def _always_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping_module, "LOOK_SECONDS", 0.0)


def _send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)
    time.sleep(0.01)  # Python handles it before the next line


@pytest.mark.parametrize(("number", "name"), [(signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "SIGTERM")])
def test_a_signal_is_a_wish_a_second_ctrl_c_interrupts(number: signal.Signals, name: str, tmp_path: Path) -> None:
    before = signal.getsignal(number)
    with stop_wishes(tmp_path / "STOP") as wish:
        assert wish() is None
        _send(number)
        assert wish() == name
        assert wish() == name  # until it is obeyed
        with pytest.raises(KeyboardInterrupt) if number == signal.SIGINT else nullcontext():
            _send(number)
    assert signal.getsignal(number) is before


def test_torchruns_sigterm_after_ctrl_c_does_not_interrupt(tmp_path: Path) -> None:
    with stop_wishes(tmp_path / "STOP") as wish:
        _send(signal.SIGINT)
        _send(signal.SIGTERM)
        assert wish() == "Ctrl-C and SIGTERM"


def test_the_file_is_a_wish_and_is_removed_when_obeyed(tmp_path: Path) -> None:
    file = tmp_path / "STOP"
    with stop_wishes(file) as wish:
        assert wish() is None
        file.touch()
        assert wish() == "STOP was found"
    assert not file.exists()


def test_outside_the_main_thread_signals_are_left_alone(tmp_path: Path) -> None:
    found = []

    def work() -> None:
        with stop_wishes(tmp_path / "STOP") as wish:
            found.append(wish())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [None]
