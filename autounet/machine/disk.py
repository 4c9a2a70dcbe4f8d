"""Disks: free space, kind of file system, and how fast they are when nothing is cached. Each question has a time limit."""

import os
import random
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import BinaryIO, Literal

from autounet.machine.facts import Disk
from autounet.machine.patience import output_of, within

REMOTE = {
    "9p", "acfs", "afs", "beegfs", "ceph", "cifs", "fhgfs", "fuse.ceph", "fuse.gcsfuse", "fuse.glusterfs", "fuse.juicefs", "fuse.rclone",
    "fuse.s3fs", "fuse.sshfs", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "orangefs", "panfs", "pvfs2", "smb3", "smbfs",
    "webdav", "wekafs",
}  # fmt: skip
"""File systems that lie on other machines."""

IN_MEMORY = {"tmpfs", "ramfs"}

STAT_SECONDS = 5.0
SPEED_SECONDS = 20.0
"""Beyond these a disk is said not to answer; measuring itself stops after about two."""

BLOCK = 8 * 2**20
MOST_BYTES = 128 * 2**20
PIECE = 2**18
WRITE_SECONDS, READ_SECONDS = 1.0, 0.4
ROOM = 4
"""Nothing is written where less than so many times of what would be written is free."""

MOST_LOOKED_AT = 400
"""Entries of a data folder, in search of files to read."""


def look_at_disk(purpose: str, folder: Path, measure: Literal["write", "read"] | None) -> Disk:
    """Free space, kind and speed.

    Args:
        purpose: What the folder is for.
        folder: It need not be there: then its nearest parent is looked at.
        measure: How fast it is, by writing and reading a temporary file or by reading what is there; None for not at all.
    """
    try:
        place = within(STAT_SECONDS, lambda: nearest(folder))
        free = within(STAT_SECONDS, lambda: shutil.disk_usage(place).free)
    except (OSError, TimeoutError) as error:
        kind = file_system(PurePath(os.path.abspath(folder)))
        return Disk(purpose=purpose, path=str(folder), file_system=kind, remote=kind in REMOTE, free_bytes=None, problem=_words(error))
    kind = file_system(place)
    disk = Disk(purpose=purpose, path=str(folder), file_system=kind, remote=kind in REMOTE or kind == "remote", free_bytes=free)
    if measure is None:
        return disk
    if measure == "write" and free < ROOM * MOST_BYTES:
        return disk.model_copy(update={"problem": "too little is free to measure it"})
    try:
        speeds = within(SPEED_SECONDS, lambda: written_and_read(place) if measure == "write" else read_only(place))
    except (OSError, TimeoutError) as error:
        return disk.model_copy(update={"problem": _words(error)})
    return disk.model_copy(update=speeds)


def nearest(folder: Path) -> Path:
    """The folder itself, or the nearest above it that is there."""
    whole = folder.resolve()
    return next((place for place in (whole, *whole.parents) if place.is_dir()), whole)


def written_and_read(folder: Path) -> dict[str, float | bool]:
    """Speeds in MB/s of a temporary file that has no name or is gone when this ends. Raises OSError."""
    block = os.urandom(BLOCK)
    with tempfile.TemporaryFile(dir=folder, prefix=".partial-", buffering=0) as file:
        began, size = time.perf_counter(), 0
        while size < MOST_BYTES and (time.perf_counter() - began < WRITE_SECONDS or size == 0):
            file.write(block)
            os.fsync(file.fileno())  # one by one: a slow disk would else take its time at the end
            size += BLOCK
        write = size / (time.perf_counter() - began)
        forgot = forget(file)
        read = _read_through(file)
        forget(file)
        return {"write_mb_s": write / 1e6, "read_mb_s": read / 1e6, "pieces_mb_s": _read_pieces(file, size) / 1e6, "cached": not forgot}


def read_only(folder: Path) -> dict[str, float | bool]:
    """Speeds in MB/s of reading the largest of the files that are there; nothing where all are small. Raises OSError."""
    files = sorted(((path.stat().st_size, path) for path in _some_files(folder)), reverse=True)
    if not files or files[0][0] < PIECE:
        return {}
    with files[0][1].open("rb", buffering=0) as file:
        forgot = forget(file)
        pieces = _read_pieces(file, files[0][0])
        forget(file)
        read = _read_through(file)
    return {"read_mb_s": read / 1e6, "pieces_mb_s": pieces / 1e6, "cached": not forgot}


def forget(file: BinaryIO) -> bool:
    """Asks the system to forget what it keeps of a file in memory, so that the disk is read; whether that can be asked."""
    advise = getattr(os, "posix_fadvise", None)  # Linux
    if advise is None:
        return False
    try:
        advise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    except OSError:
        return False
    return True


def file_system(place: PurePath, mountinfo: Path = Path("/proc/self/mountinfo")) -> str | None:
    """Kind of the file system, from the system's list (the folder may hang, and is not touched); None where that is not told."""
    if sys.platform == "win32":
        import ctypes

        drive = getattr(ctypes, "windll").kernel32.GetDriveTypeW(place.drive + "\\")  # noqa: B009 (there on Windows alone)
        return {4: "remote", 6: "ramfs"}.get(drive)  # DRIVE_REMOTE, DRIVE_RAMDISK
    if sys.platform == "darwin":
        return kind_of_place(place, mounts_of_macos(output_of("mount")))
    try:
        return kind_of_place(place, mounts_of_linux(mountinfo.read_text(encoding="utf-8", errors="surrogateescape")))
    except OSError:
        return None


def kind_of_place(place: PurePath, mounts: Iterator[tuple[str, str]]) -> str | None:
    """The kind of the innermost mount, of several at one place that of the last."""
    found: tuple[int, str] | None = None
    for where, kind in mounts:
        if place.is_relative_to(where) and (found is None or len(PurePath(where).parts) >= found[0]):
            found = len(PurePath(where).parts), kind
    return None if found is None else found[1]


def mounts_of_linux(text: str) -> Iterator[tuple[str, str]]:
    """Places and kinds. Source: proc_pid_mountinfo(5): blanks in names are octal, the kind stands behind a lone hyphen."""
    for line in text.splitlines():
        words = line.split(" ")
        if len(words) > 6 and "-" in words[6:-1]:
            place = re.sub(r"\\(\d{3})", lambda match: chr(int(match.group(1), 8)), words[4])
            yield place, words[words.index("-", 6) + 1]


def mounts_of_macos(text: str) -> Iterator[tuple[str, str]]:
    """Places and kinds of lines such as ``//me@host/share on /Volumes/share (smbfs, nodev, nosuid)``."""
    for match in re.finditer(r"^.*? on (/.*) \((\w+)[,)]", text, flags=re.MULTILINE):
        yield match.group(1), match.group(2)


def _read_through(file: BinaryIO) -> float:
    """Bytes a second from the beginning on."""
    file.seek(0)
    began, size = time.perf_counter(), 0
    while time.perf_counter() - began < READ_SECONDS and (found := len(file.read(2**20))):
        size += found
    return size / (time.perf_counter() - began)


def _read_pieces(file: BinaryIO, size: int) -> float:
    """Bytes a second of pieces at random places, each read once."""
    places = list(range(0, size - PIECE + 1, PIECE))
    random.Random(0).shuffle(places)
    began, total = time.perf_counter(), 0
    for place in places:
        file.seek(place)
        total += len(file.read(PIECE))
        if time.perf_counter() - began > READ_SECONDS:
            break
    return total / (time.perf_counter() - began)


def _some_files(folder: Path) -> Iterator[Path]:
    """Files of a folder and of those in it, of large ones only some."""
    looked, todo = 0, [folder]
    while todo:
        for entry in os.scandir(todo.pop(0)):
            looked += 1
            if looked > MOST_LOOKED_AT:
                return
            if entry.is_dir():
                todo.append(Path(entry.path))
            elif entry.is_file():
                yield Path(entry.path)


def _words(error: OSError | TimeoutError) -> str:
    return str(error.strerror or error)
