"""Files of the run folder: strict, readable, and never half-written."""

import json
import os
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from autounet.artefact import (
    FORGOTTEN_SECONDS,
    Artefact,
    Frozen,
    atomic_path,
    digest_of,
    partial_name,
    readable_json,
    remove_leftovers,
    write_text_atomic,
)
from autounet.errors import ArtefactError
from autounet.owner import this_machine


class Part(Frozen):
    sizes: tuple[int, ...]
    names: dict[str, float]


class Note(Artefact):
    KIND: ClassVar[str] = "note"
    VERSION: ClassVar[int] = 3

    kind: str = KIND
    schema_version: int = VERSION
    title: str
    part: Part


NOTE = Note(made_from={"data": "0123"}, title="größer", part=Part(sizes=(1, 2), names={"a": 0.1}))

json_value = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=5), inner, max_size=6),
    max_leaves=30,
)


def test_saved_and_loaded(tmp_path: Path) -> None:
    NOTE.save(tmp_path / "new" / "note.json")
    assert Note.load(tmp_path / "new" / "note.json") == NOTE


def test_short_lists_stay_on_one_line() -> None:
    assert NOTE.to_json() == (
        '{\n  "kind": "note",\n  "schema_version": 3,\n  "made_from": {"data": "0123"},\n  "title": "größer",\n'
        '  "part": {\n    "sizes": [1, 2],\n    "names": {"a": 0.1}\n  }\n}\n'
    )


@given(json_value)
def test_readable_json_is_json(value: Any) -> None:
    assert json.loads(readable_json(value)) == value


def test_artefacts_cannot_be_changed_and_take_nothing_unknown() -> None:
    with pytest.raises(ValidationError):
        NOTE.title = "other"  # type: ignore[misc]
    with pytest.raises(ValidationError):
        Part(sizes=(1,), names={}, extra=1)  # type: ignore[call-arg]
    with pytest.raises(ValidationError):
        Part(sizes=("1",), names={})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "plan"}, "is not a note: found 'plan', expected 'note'"),
        ({"schema_version": 2}, "note of another version: found 2, expected 3"),
        ({"title": 5}, "note is malformed at 'title'"),
        ({"part": {"sizes": [1, "2"], "names": {}}}, "note is malformed at 'part.sizes.1'"),
        ({"part": {"sizes": [1], "names": {"a": None}}}, "note is malformed at 'part.names.a'"),
        ({"surplus": 1}, "note is malformed at 'surplus'"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "note.json"
    path.write_text(json.dumps({**json.loads(NOTE.to_json()), **change}), encoding="utf-8")
    with pytest.raises(ArtefactError) as caught:
        Note.load(path)
    assert str(caught.value).startswith(f"{path}: {message}")


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", '{"kind": "note", "schema_version": 3, "title": NaN}', "[" * 100_000])
def test_what_is_no_artefact_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "note.json").write_text(text)
    with pytest.raises(ArtefactError, match=r"note\.json: "):
        Note.load(tmp_path / "note.json")


def test_missing_binary_and_folder(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match=r"no note here\. Run `autounet plan`"):
        Note.load(tmp_path / "note.json")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ArtefactError, match="cannot be read as a note"):
        Note.load(tmp_path / "bytes")
    with pytest.raises(ArtefactError, match="cannot be read as a note"):
        Note.load(tmp_path)


def test_equal_content_equal_digest() -> None:
    again = Note.model_validate_json(NOTE.to_json())
    assert again.digest() == NOTE.digest()
    assert NOTE.model_copy(update={"title": "x"}).digest() != NOTE.digest()
    assert digest_of({"b": 1, "a": [1, 2]}) == digest_of({"a": [1, 2], "b": 1})
    assert digest_of({"a": [2, 1]}) != digest_of({"a": [1, 2]})
    # SHA-256 of the text {"a":1}, worked out with sha256sum
    assert digest_of({"a": 1}) == "015abd7f5cc57a2d"


def test_a_reader_sees_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    write_text_atomic(path, "old")

    def interrupted() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            assert path.read_text() == "old"
            assert temporary.parent == path.parent
            assert temporary.name.endswith("file.txt")  # libraries that look at the ending see the right one
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    write_text_atomic(path, "new")
    assert path.read_text() == "new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file.txt"]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX file modes")
def test_files_get_the_rights_of_ordinary_new_files(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_text_atomic(tmp_path / "file", "text")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


def test_a_folder_that_cannot_be_made_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ArtefactError, match=r"cannot be written.*Check the folder's permissions and free space"):
        write_text_atomic(tmp_path / "file" / "below" / "x.json", "text")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ArtefactError, match="cannot be written"):
        write_text_atomic(tmp_path / "folder", "text")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "folder"]


def test_leftovers_of_a_killed_process_are_removed_and_nothing_else(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), atomic_path(tmp_path / "plan.json"):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []  # an interrupt cleans up by itself
    (tmp_path / "plan.json").write_text("whole")
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    dead, other = f"{this_machine()}-{ended.pid}", f"{'0' * 8}-1"  # of a machine that cannot be asked
    for name in (dead, other):
        (tmp_path / f".partial-{name}-0123-plan.json").write_text("half")
    (tmp_path / f".partial-{dead}-folder").mkdir()
    (tmp_path / partial_name("plan.json")).write_text("half, by this process")
    remove_leftovers(tmp_path)
    left = sorted(path.name.split("-")[1] for path in tmp_path.glob(".partial*"))
    assert left == sorted(["0" * 8, this_machine()])
    long_ago = time.time() - 2 * FORGOTTEN_SECONDS
    for path in tmp_path.glob(".partial*"):
        os.utime(path, (long_ago, long_ago))
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]


def test_the_longest_file_name_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("c" * 250 + ".json")
    write_text_atomic(path, "{}")
    assert path.read_text() == "{}"
