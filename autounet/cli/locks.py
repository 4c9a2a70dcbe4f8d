"""One command at a time where two would undo each other's work: a lock file that says whose it is, taken over when its owner is gone.

A lock is a file that only one process can make. While it is held a thread of its owner touches it now and then, its heartbeat. A lock
is stale when its owner, a process of this machine, has ended; or, of a machine that cannot be asked, when its heart has not beaten for
``SILENT_SECONDS``, by the disk's own clock. This needs nothing of the file system but that a name can be given only once, so it is the
same on local disks, on network disks without locks, and on Windows.
"""

import getpass
import logging
import os
import platform
import shlex
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from pydantic import ValidationError

from autounet import owner
from autounet.artefact import PARTIAL, Frozen, partial_name, refusal
from autounet.errors import ArtefactError, AutounetError

log = logging.getLogger(__name__)

BEAT_SECONDS = 15.0

SILENT_SECONDS = 180.0
"""Network disks may stand still for a while, and show another machine's changes a minute late."""

FORGOTTEN_SECONDS = 3 * BEAT_SECONDS
"""A lock of this very process that has been silent for so long is held by nobody: the process runs, so its heart would beat."""

CLEARING_SECONDS = 60.0
"""A process that clears a stale lock needs milliseconds for it, unless it was killed meanwhile."""

LOOK_SECONDS = 0.2
"""Whoever waits looks so often."""

GIVING_BACK_PAUSES_SECONDS = (0.0, 0.5, 2.0)
"""Before each try to give a lock back, for disks that fail for a moment."""


class Holder(Frozen):
    """Who has a lock: the content of its file."""

    machine: str
    """As ``owner.this_machine`` tells."""
    process: int
    birth: str
    """As ``owner.birth_of`` tells."""
    host: str
    user: str
    command: str
    since: str
    token: str
    """Of this taking of the lock alone."""
    names: tuple[str, ...] = ()
    """Of the files that a claim is for."""

    @classmethod
    def this(cls, names: tuple[str, ...] = ()) -> Self:
        """This process."""
        try:
            user = getpass.getuser()
        except (ImportError, KeyError, OSError):  # a number without a name
            user = "unknown"
        return cls(
            machine=owner.this_machine(),
            process=os.getpid(),
            birth=owner.birth_of(os.getpid()),
            host=platform.node(),
            user=user,
            command=shlex.join(["autounet", *sys.argv[1:]]),
            since=datetime.now(UTC).isoformat(timespec="seconds"),
            token=uuid.uuid4().hex,
            names=names,
        )

    def describe(self) -> str:
        """For messages."""
        return f"process {self.process} of {self.user} on {self.host}, `{self.command}`, since {self.since}"


@contextmanager
def one_at_a_time(
    path: Path, busy: Callable[[str], AutounetError | None], cleared: Callable[[str], None] = lambda words: None
) -> Iterator[None]:
    """Holds the lock ``path``, a file that is there only while somebody holds it.

    Args:
        path: The lock's file; its folder must be there.
        busy: Called once when another process has the lock, with words about it: the error it returns is raised; after None the lock is
            waited for.
        cleared: Called with words about the holder when a stale lock was cleared.

    Raises:
        ArtefactError: The file cannot be made.
    """
    me = Holder.this()
    _take(path, me, busy, cleared)
    with _held(path, me):
        yield


@contextmanager
def claimed(folder: Path, prefix: str, names: Sequence[str]) -> Iterator[tuple[frozenset[str], list[str]]]:
    """Claims names in a folder, so that commands that work there at the same time do not do the same twice.

    Args:
        folder: Must be there.
        prefix: Of the files that hold the claims.
        names: What this command would do.

    Yields:
        The names that nobody else has claimed, which are this command's until the end; and words about each of the others.

    Raises:
        ArtefactError: The folder cannot be written to.
    """
    others: list[Holder] = []
    with one_at_a_time(folder / f"{prefix}lock", lambda holder: None):
        now = time.time()
        for path in folder.glob(f"{prefix}claim-*"):
            holder, beat = read_holder(path)
            if beat is None:
                continue
            if state_of(holder, now - beat) == "gone":
                with suppress(OSError):
                    path.unlink()
            elif holder is not None:
                others.append(holder)
        mine = frozenset(names) - {name for holder in others for name in holder.names}
        me = Holder.this(tuple(sorted(mine)))
        place = folder / f"{prefix}claim-{me.token[:12]}"
        _take(place, me, lambda holder: None, lambda holder: None)
    with _held(place, me):
        yield mine, [holder.describe() for holder in others if set(holder.names) & set(names)]


@contextmanager
def _held(path: Path, me: Holder) -> Iterator[None]:
    with _Heart(path, me):
        try:
            yield
        finally:
            release(path, me)


def release(path: Path, me: Holder) -> None:
    """Gives a lock back, unless it was taken over. What the disk does not let us remove is cleared when this process has ended."""
    for pause in GIVING_BACK_PAUSES_SECONDS:
        time.sleep(pause)
        with suppress(OSError):
            if read_holder(path)[0] == me:
                path.unlink()
            return
    log.warning("%s: cannot be removed now", path)


def clear_stale(path: Path) -> None:
    """Removes a lock whose owner, a process of this machine, has ended."""
    with suppress(OSError):
        found, _ = read_holder(path)
        if found is not None and state_of(found, 0.0) == "gone":
            _clear(path, found)


def read_holder(path: Path) -> tuple[Holder | None, float | None]:
    """Who has a lock, and when its heart last beat, by the disk's clock; the first is None where the file does not say it.

    Both are None where there is no lock.
    """
    try:
        beat = path.stat().st_mtime
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None, None
    with suppress(ValidationError, ValueError):
        return Holder.model_validate_json(text), beat
    return None, beat


def _take(path: Path, me: Holder, busy: Callable[[str], AutounetError | None], cleared: Callable[[str], None]) -> None:
    asked, first_beat = False, None
    try:
        while (now := _make(path, me)) is not None:
            found, beat = read_holder(path)
            if beat is None:
                continue  # given back meanwhile
            if found == me:
                return  # a network disk can say that the name is taken when it has just given it to us
            first_beat, silent = first_beat or beat, now - beat
            state = state_of(found, silent)
            if state == "gone":
                if _clear(path, found):
                    cleared(words_about(found, silent))
                    continue
            elif not asked and (state == "alive" or beat > first_beat):
                asked = True
                error = busy(words_about(found, silent))
                if error is not None:
                    raise error
            time.sleep(LOOK_SECONDS)
    except OSError as error:
        found_error = refusal(path.parent, error)
        raise ArtefactError(
            f"{path.parent}: cannot be written", found=found_error, remedy="check the folder's permissions and free space"
        ) from None


def state_of(holder: Holder | None, silent_seconds: float) -> str:
    """``alive``, ``gone``, or ``unknown`` as long as the owner, elsewhere, may only be late with its next heartbeat.

    A lock that says nothing was made on a poor disk, a moment ago, or by a version that locked in another way. One that this process
    itself could not remove has no heart any more.
    """
    alive = None if holder is None else owner.is_alive(holder.machine, holder.process, holder.birth)
    if alive is None:
        return "gone" if silent_seconds > (CLEARING_SECONDS if holder is None else SILENT_SECONDS) else "unknown"
    if alive and holder is not None and holder.process == os.getpid() and silent_seconds > FORGOTTEN_SECONDS:
        return "gone"
    return "alive" if alive else "gone"


def words_about(holder: Holder | None, silent_seconds: float) -> str:
    """Who has a lock and how it does, for messages."""
    if holder is None:
        return "a lock that does not say whose it is"
    return f"{holder.describe()}, last heard of {max(silent_seconds, 0):.0f} s ago"


def _make(path: Path, me: Holder) -> float | None:
    """Makes the lock with its content, both at once; if it is there, the disk's present time. Raises OSError."""
    draft = path.parent / partial_name(path.name)
    try:
        draft.write_text(me.model_dump_json() + "\n", encoding="utf-8")
        now = draft.stat().st_mtime
        try:
            os.link(draft, path)
        except FileExistsError:
            return now
        except OSError:  # a disk without links: there a lock says nothing for a moment
            return now if not _write_new(path, me) else None
        return None
    finally:
        with suppress(OSError):
            draft.unlink()


def _write_new(path: Path, me: Holder) -> bool:
    try:
        file = path.open("x", encoding="utf-8")
    except FileExistsError:
        return False
    try:
        with file:
            file.write(me.model_dump_json() + "\n")
    except OSError:
        path.unlink(missing_ok=True)
        raise
    return True


def _clear(path: Path, stale: Holder | None) -> bool:
    """Removes a stale lock; False if another process is at it, or was.

    Of several only the one that makes the claim may remove this lock, and it looks again whether it is still the same.
    """
    claim = path.parent / f"{PARTIAL}{'0' * 8 if stale is None else stale.token[:8]}-0-{path.name}"
    try:
        claim.open("x").close()
    except FileExistsError:
        with suppress(OSError):
            if time.time() - claim.stat().st_mtime > CLEARING_SECONDS:
                claim.unlink()
        return False
    try:
        if read_holder(path)[0] != stale:
            return False
        path.unlink(missing_ok=True)
        return True
    finally:
        with suppress(OSError):
            claim.unlink()


class _Heart:
    """Touches the lock now and then, in a thread."""

    def __init__(self, path: Path, me: Holder) -> None:
        self._path, self._me, self._stop = path, me, threading.Event()
        self._thread = threading.Thread(target=self._beat, name="autounet-lock", daemon=True)

    def _beat(self) -> None:
        while not self._stop.wait(BEAT_SECONDS):
            with suppress(OSError):  # a disk that does not answer now
                found, beat = read_holder(self._path)
                if found != self._me and beat is not None:
                    log.warning("%s was taken over by %s: stop one of the two commands", self._path, words_about(found, 0.0))
                    return
                os.utime(self._path)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
