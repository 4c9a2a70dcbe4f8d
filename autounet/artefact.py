"""What all files in a run folder share: strict frozen types, atomic writing, a schema version and a content hash."""

import errno
import hashlib
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from autounet import owner
from autounet.errors import ArtefactError
from autounet.portable import replace_file
from autounet.text_files import read_text

PARTIAL = ".partial-"
"""Names of files that are being written begin so; it follows whose they are (``owner.tag``)."""

FORGOTTEN_SECONDS = 86_400
"""What nobody has written to for so long is left over, whoever wrote it."""

LONGEST_NAME = 200
"""Of a long file name so many bytes are kept beside that: file systems end at 255."""


class Frozen(BaseModel):
    """A value: immutable, strict about types, and with no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Artefact(Frozen):
    """A file of the run folder that one stage writes and later stages read."""

    KIND: ClassVar[str]
    """What the file is called in messages."""
    VERSION: ClassVar[int]
    """Schema version this code writes and reads."""
    REMEDY: ClassVar[str] = "delete it and run `autounet plan` again"
    """What to do about a file of another version, or one that is malformed."""

    kind: str
    schema_version: int
    made_from: dict[str, str]
    """Content hashes of what this was made from, by name."""

    def to_json(self) -> str:
        """The artefact as JSON that people can read: short lists stay on one line."""
        return readable_json(self.model_dump(mode="json")) + "\n"

    def digest(self) -> str:
        """Hash of the content, 16 hexadecimal digits; equal content gives an equal digest on every machine."""
        return digest_of(self.model_dump(mode="json"))

    def save(self, path: Path) -> None:
        """Writes the artefact; a reader sees the old file or the new one, never a part."""
        write_text_atomic(path, self.to_json())

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads and checks an artefact.

        Raises:
            ArtefactError: The file is missing, is not JSON, has another kind or version, or breaks the schema.
        """
        try:
            text = read_text(path)
        except FileNotFoundError:
            raise ArtefactError(f"{path}: no {cls.KIND} here", remedy="run `autounet plan` for this dataset first") from None
        except (OSError, UnicodeDecodeError) as error:
            raise ArtefactError(f"{path}: cannot be read as a {cls.KIND}", found=error) from None
        return cls.from_json(text, str(path))

    @classmethod
    def from_json(cls, text: str, name: str) -> Self:
        """Checks JSON text; ``name`` stands for it in messages. Raises ArtefactError."""
        remedy = cls.REMEDY
        try:
            raw: Any = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ArtefactError(f"{name}: is not valid JSON", found=error, remedy=remedy) from None
        if not isinstance(raw, dict) or raw.get("kind") != cls.KIND:
            found = raw.get("kind") if isinstance(raw, dict) else type(raw).__name__
            raise ArtefactError(f"{name}: is not a {cls.KIND}", found=repr(found), expected=repr(cls.KIND))
        if raw.get("schema_version") != cls.VERSION:
            raise ArtefactError(
                f"{name}: {cls.KIND} of another version", found=raw.get("schema_version"), expected=cls.VERSION, remedy=remedy
            )
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise ArtefactError(
                f"{name}: {cls.KIND} is malformed{f' at {where!r}' if where else ''}", found=first["msg"], remedy=remedy
            ) from None


def readable_json(value: Any) -> str:
    """JSON with two-space indents in which a list or object of plain values stays on one line."""
    return _readable(value, 0)


def _readable(value: Any, depth: int) -> str:
    if not isinstance(value, (dict, list)):
        return json.dumps(value, ensure_ascii=False)
    items = value.values() if isinstance(value, dict) else value
    plain = all(not isinstance(item, (dict, list)) or not item for item in items)
    if plain or (isinstance(value, list) and all(isinstance(row, list) for row in value)):
        line = json.dumps(value, ensure_ascii=False)
        if len(line) <= (160 if plain else 100):
            return line
    inner, outer = "  " * (depth + 1), "  " * depth
    if isinstance(value, dict):
        rows = [f"{inner}{json.dumps(key, ensure_ascii=False)}: {_readable(item, depth + 1)}" for key, item in value.items()]
        return "{\n" + ",\n".join(rows) + "\n" + outer + "}"
    return "[\n" + ",\n".join(inner + _readable(item, depth + 1) for item in value) + "\n" + outer + "]"


def digest_of(value: Any) -> str:
    """Hash of a JSON-like value, 16 hexadecimal digits, independent of key order."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_digest(path: Path) -> str:
    """Hash of a file's content, 16 hexadecimal digits. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def remove_leftovers(folder: Path) -> None:
    """Removes what killed processes left half-written in a folder; never what a living one is writing."""
    with suppress(OSError):  # no such folder, or one that may not be read
        for path in folder.glob(f"{PARTIAL}*"):
            if is_left_over(path):
                with suppress(OSError):
                    shutil.rmtree(path) if path.is_dir() else path.unlink()


def is_left_over(path: Path) -> bool:
    """Whether the process that made a temporary file, as its name tells, has ended; or must have, where it cannot be asked."""
    named = re.match(rf"{re.escape(PARTIAL)}([0-9a-f]{{8}})-(\d+)-", path.name)
    if named is not None and owner.is_alive(named[1], int(named[2])) is False:
        return True
    try:
        return time.time() - path.stat().st_mtime > FORGOTTEN_SECONDS
    except OSError:
        return False  # gone


def partial_name(name: str) -> str:
    """A temporary name for a file or folder of this process, with the same ending."""
    # Not tempfile's: its files are for the owner alone, which others who share a run folder could not read.
    ending = name.encode()[-LONGEST_NAME:].decode(errors="ignore")
    return f"{partial_prefix()}{uuid.uuid4().hex[:8]}-{ending}"


def partial_prefix() -> str:
    """What the names of this process's temporary files and folders begin with."""
    return f"{PARTIAL}{owner.tag()}-"


@contextmanager
def atomic_path(path: Path, durable: bool = True) -> Iterator[Path]:
    """Gives a temporary name beside ``path`` (same suffixes) to write to, and renames it on success.

    ``durable`` also waits until the disk has the data, so that even a power cut leaves the old file or the new one.

    Raises:
        ArtefactError: The folder cannot be written to or is full.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.parent / partial_name(path.name)
        draft.touch(exist_ok=False)
        temporary = draft
        yield temporary
        if durable:
            with temporary.open("rb+") as written:
                os.fsync(written.fileno())
        replace_file(temporary, path)
        temporary = None
    except OSError as error:
        raise ArtefactError(
            f"{path}: cannot be written", found=refusal(path.parent, error), remedy="check the folder's permissions and free space"
        ) from error
    finally:
        if temporary is not None:
            with suppress(OSError):  # the first error is the one to show; a later command clears up
                temporary.unlink()


def refusal(folder: Path, error: OSError) -> str:
    """Why the system refuses to write into a folder; where there is no room, how much there is."""
    why = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        free = free_bytes(folder)
        return why if free is None else f"{why}, {in_bytes(free)} are free there"
    return why


def free_bytes(folder: Path) -> int | None:
    """Room on the disk of a folder, which need not be there yet; None where the system does not tell."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None


def in_bytes(number: float) -> str:
    """A number of bytes, in words."""
    return f"{number / 1e9:.1f} GB" if number >= 1e9 else f"{number / 1e6:.1f} MB"


def write_text_atomic(path: Path, text: str) -> None:
    """Writes text so that a reader sees the old file or the new one, never a part. Raises ArtefactError."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
