"""Two commands at once, as real processes: one has the lock and the other is told who; what is left of a dead one is cleared."""

import errno
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import autounet.cli.locks as locks
from autounet.cli.locks import Holder, claimed, clear_stale, one_at_a_time
from autounet.errors import AutounetError

ROOT = Path(__file__).resolve().parents[2]

HOLD = """
import sys, time
from pathlib import Path
from autounet.cli.locks import one_at_a_time
with one_at_a_time(Path(sys.argv[1]), lambda holder: None):
    print("held", flush=True)
    sys.stdin.read()
"""

COUNT = """
import sys
from pathlib import Path
from autounet.cli.locks import one_at_a_time
lock, number = Path(sys.argv[1]), Path(sys.argv[2])
for _ in range(15):
    with one_at_a_time(lock, lambda holder: None):
        value = int(number.read_text())
        number.write_text(str(value + 1))
"""


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "LOOK_SECONDS", 0.01)


@contextmanager
def holder(lock: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds a lock until its input is closed."""
    command = [sys.executable, "-c", HOLD, str(lock)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def busy(words: str) -> AutounetError:
    return AutounetError("busy", found=words)


def test_who_has_it_is_told(tmp_path: Path) -> None:
    lock = tmp_path / ".lock"
    with holder(lock) as process:
        words = rf"process {process.pid} of .* on .*, `autounet .*, last heard of \d+ s ago"
        with pytest.raises(AutounetError, match=words), one_at_a_time(lock, busy):
            pytest.fail("two have it")
        assert process.stdin is not None
        process.stdin.close()
        with one_at_a_time(lock, lambda words: None):  # waits for it
            assert json.loads(lock.read_text())["process"] == os.getpid()
    assert not lock.exists()


def test_a_lock_of_a_killed_process_is_cleared_and_said(tmp_path: Path) -> None:
    lock, said = tmp_path / ".lock", list[str]()
    with holder(lock) as process:
        process.kill()
        process.wait()
        assert lock.exists()
        with one_at_a_time(lock, busy, said.append):
            pass
        assert f"process {process.pid} of" in said[0]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("links", [True, False], ids=["hard links", "no hard links"])
def test_processes_that_count_together_do_not_miss_one(tmp_path: Path, links: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without hard links, as on a USB stick, the lock is made in another way."""
    number = tmp_path / "number"
    number.write_text("0")
    program = COUNT if links else f"import os\ndef no(*paths): raise OSError(95, 'not supported')\nos.link = no\n{COUNT}"
    processes = [subprocess.Popen([sys.executable, "-c", program, str(tmp_path / ".lock"), str(number)], cwd=ROOT) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    assert number.read_text() == "30"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["number"]


def of_another_machine(lock: Path, silent_seconds: float) -> Holder:
    """A lock that this machine cannot ask about."""
    found = Holder.this().model_copy(update={"machine": "0" * 8, "host": "elsewhere"})
    lock.write_text(found.model_dump_json())
    then = time.time() - silent_seconds
    os.utime(lock, (then, then))
    return found


def test_a_lock_of_another_machine_that_has_fallen_silent_is_cleared(tmp_path: Path) -> None:
    lock, said = tmp_path / ".lock", list[str]()
    of_another_machine(lock, silent_seconds=10_000)
    with one_at_a_time(lock, busy, said.append):
        assert "on elsewhere" in said[0]


def test_a_lock_of_another_machine_is_watched_until_its_heart_beats(tmp_path: Path) -> None:
    """As long as it does not, it may have been killed: somebody who asks at once is not refused for nothing."""
    lock = tmp_path / ".lock"
    of_another_machine(lock, silent_seconds=100)
    beat = threading.Timer(0.3, lambda: os.utime(lock))
    beat.start()
    began = time.monotonic()
    with pytest.raises(AutounetError, match="on elsewhere"), one_at_a_time(lock, busy):
        pass
    assert time.monotonic() - began >= 0.25
    assert lock.exists()


def test_a_number_that_was_given_to_another_process_does_not_pass_for_the_holder(tmp_path: Path) -> None:
    if not Holder.this().birth:
        pytest.skip("this system does not tell when a process began")
    lock = tmp_path / ".lock"
    lock.write_text(Holder.this().model_copy(update={"birth": "1"}).model_dump_json())
    clear_stale(lock)
    assert not lock.exists()


def test_the_heart_beats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "BEAT_SECONDS", 0.01)
    lock = tmp_path / ".lock"
    with one_at_a_time(lock, busy):
        os.utime(lock, (0, 0))
        until = time.monotonic() + 30
        while lock.stat().st_mtime < 1 and time.monotonic() < until:
            time.sleep(0.01)
        assert lock.stat().st_mtime > 1


def test_an_empty_lock_of_an_older_version_does_not_stand_in_the_way_for_ever(tmp_path: Path) -> None:
    lock = tmp_path / ".lock"
    lock.touch()
    os.utime(lock, (0, 0))
    with one_at_a_time(lock, busy):
        pass


def failing(times: int, reads: Callable[..., Any]) -> Callable[..., Any]:
    """``reads``, after the disk has failed so often."""
    left = iter(range(times))

    def read(*arguments: Any, **keywords: Any) -> Any:
        if next(left, None) is not None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return reads(*arguments, **keywords)

    return read


def test_a_lock_is_given_back_though_the_disk_fails_for_a_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "GIVING_BACK_PAUSES_SECONDS", (0.0, 0.01))
    lock = tmp_path / ".lock"
    with one_at_a_time(lock, busy):
        monkeypatch.setattr(locks, "read_holder", failing(1, locks.read_holder))
    assert not lock.exists()


def test_a_lock_that_could_not_be_given_back_does_not_stand_in_its_owners_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "GIVING_BACK_PAUSES_SECONDS", (0.0, 0.01))
    lock = tmp_path / ".lock"
    with one_at_a_time(lock, busy):
        monkeypatch.setattr(locks, "read_holder", failing(2, locks.read_holder))
    assert lock.exists()
    monkeypatch.setattr(locks, "FORGOTTEN_SECONDS", 0.2)
    with one_at_a_time(lock, lambda words: None):
        assert lock.exists()
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_the_disk_says_is_taken_though_it_gave_it_to_us(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As network disks do when an answer gets lost and the question is repeated."""
    link = os.link

    def link_twice(draft: Path, path: Path) -> None:
        link(draft, path)
        raise FileExistsError

    monkeypatch.setattr(os, "link", link_twice)
    with one_at_a_time(tmp_path / ".lock", busy):
        pass
    assert list(tmp_path.iterdir()) == []


def test_names_are_claimed_by_one_command_only(tmp_path: Path) -> None:
    with claimed(tmp_path, ".claims-", ["a", "b"]) as (first, others):
        assert (first, others) == ({"a", "b"}, [])
        with claimed(tmp_path, ".claims-", ["b", "c"]) as (second, others):
            assert second == {"c"}
            assert f"process {os.getpid()}" in others[0]
        with claimed(tmp_path, ".claims-", ["d"]) as (third, others):
            assert (third, others) == ({"d"}, [])
    with claimed(tmp_path, ".claims-", ["a"]) as (again, _):
        assert again == {"a"}
    assert list(tmp_path.iterdir()) == []
