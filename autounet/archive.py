"""Reading members of a zip that may come from anybody: nothing is unpacked to disk, nothing is believed that is not checked."""

import hashlib
import stat
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from re import Pattern

from autounet.errors import ArtefactError

MOST_MEMBERS = 10_000
BLOCK = 2**20
REMEDY = "do not use this file; ask for it again where it came from"
DAMAGED = "copy or download it again"


def list_members(path: Path, known: Pattern[str]) -> dict[str, int]:
    """Names and sizes of all members of a zip in which everything is stored as it is.

    Args:
        path: The zip.
        known: What a member may be called; names that match must not lead anywhere.

    Raises:
        ArtefactError: It is no zip, is cut off, or has members that are not called so, come twice, are packed, encrypted, links or
            folders.
    """
    with _reading(path) as archive:
        members = archive.infolist()
        size = path.stat().st_size
    if len(members) > MOST_MEMBERS:
        raise ArtefactError(f"{path}: too many members", found=len(members), expected=f"at most {MOST_MEMBERS}", remedy=REMEDY)
    found: dict[str, int] = {}
    for member in members:
        name = shown(member.filename)
        if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG):
            raise ArtefactError(f"{path}: member {name} is a link, a folder or a device", expected="a plain file", remedy=REMEDY)
        # orig_filename: what zipfile makes of backslashes and zeros is not what is written there
        if not known.fullmatch(member.filename) or member.orig_filename != member.filename:
            raise ArtefactError(f"{path}: has a member that does not belong there", found=shown(member.orig_filename), remedy=REMEDY)
        if member.filename in found:
            raise ArtefactError(f"{path}: member {name} is there twice", remedy=REMEDY)
        if member.flag_bits & 1:
            raise ArtefactError(f"{path}: member {name} is encrypted", expected="members stored as they are", remedy=REMEDY)
        if member.compress_type != zipfile.ZIP_STORED or member.compress_size != member.file_size:
            raise ArtefactError(
                f"{path}: member {name} is packed",
                found=f"{member.compress_size} bytes for {member.file_size}",
                expected="members stored as they are",
                remedy="use the file as autounet wrote it",
            )
        found[member.filename] = member.file_size
    if sum(found.values()) > size:
        raise ArtefactError(f"{path}: members lie upon each other", found=f"{sum(found.values())} bytes in a file of {size}", remedy=REMEDY)
    return found


def read_member(path: Path, name: str, size: int, sha256: str | None = None) -> bytes:
    """The content of a member that ``list_members`` has found.

    Args:
        path: The zip.
        name: Of the member.
        size: Bytes it has; not one more is read.
        sha256: Hash of its content; None where nothing is known about it.

    Raises:
        ArtefactError: It is damaged, or another than the one that the size and the hash were taken from.
    """
    with _reading(path, name) as archive, archive.open(name) as member:
        content = bytearray()
        while block := member.read(min(BLOCK, size + 1 - len(content))):
            content += block
    if len(content) != size:
        raise ArtefactError(f"{path}: member {shown(name)} has another size", found=len(content), expected=size, remedy=DAMAGED)
    if sha256 is not None and (found := hashlib.sha256(content).hexdigest()) != sha256:
        raise ArtefactError(
            f"{path}: member {shown(name)} is not what was written there", found=f"sha256 {found[:16]}…", expected=f"{sha256[:16]}…",
            remedy=DAMAGED,
        )  # fmt: skip
    return bytes(content)


def shown(name: str) -> str:
    """A name for messages: quoted, short, and unable to do anything to a terminal."""
    return ascii(name if len(name) <= 100 else f"{name[:97]}...")


@contextmanager
def _reading(path: Path, member: str | None = None) -> Iterator[zipfile.ZipFile]:
    """Opens a zip and turns all that zipfile raises for a damaged one into an ArtefactError."""
    what = f"{path}: is no zip, or a damaged one" if member is None else f"{path}: member {shown(member)} cannot be read"
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except OSError as error:
        raise ArtefactError(f"{path}: cannot be read", found=error.strerror or error) from None
    except (zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError, ValueError, KeyError, OverflowError, struct.error) as error:
        raise ArtefactError(what, found=ascii(str(error))[1:-1][:200], remedy=DAMAGED) from None
