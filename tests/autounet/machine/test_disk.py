"""Disks: kinds from lists of mounts as systems print them, speeds of real files, and disks that hang."""

import os
import time
from pathlib import Path, PurePosixPath

import pytest

from autounet.machine import disk as module
from autounet.machine.disk import file_system, kind_of_place, look_at_disk, mounts_of_linux, mounts_of_macos, nearest

MOUNTINFO = r"""22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:40 / /scratch rw,relatime shared:2 master:3 - lustre 10.0.0.1@tcp:/scratch rw
31 22 0:41 / /mnt/my\040data ro - nfs4 server:/export ro
32 30 0:42 / /scratch/local rw - xfs /dev/nvme0n1 rw
33 22 0:43 / /home rw - ext4 /dev/sdb1 rw
34 33 0:44 / /home rw - cifs //server/home rw
broken
"""

MACOS = """/dev/disk3s1s1 on / (apfs, sealed, local, read-only, journaled)
//me@host/share on /Volumes/my (old) share (smbfs, nodev, nosuid, mounted by me)
"""


@pytest.mark.parametrize(
    ("place", "kind"),
    [
        ("/var", "ext4"),
        ("/scratch/me", "lustre"),
        ("/scratch/local/me", "xfs"),
        ("/scratchy", "ext4"),
        ("/mnt/my data/a", "nfs4"),
        ("/home/me", "cifs"),
    ],
)
def test_the_innermost_and_last_mount_counts(place: str, kind: str, tmp_path: Path) -> None:
    (tmp_path / "mountinfo").write_text(MOUNTINFO)
    assert kind_of_place(PurePosixPath(place), mounts_of_linux(MOUNTINFO)) == kind
    assert file_system(PurePosixPath(place), tmp_path / "mountinfo") == kind


def test_macos() -> None:
    assert kind_of_place(PurePosixPath("/Volumes/my (old) share/x"), mounts_of_macos(MACOS)) == "smbfs"
    assert kind_of_place(PurePosixPath("/Users/me"), mounts_of_macos(MACOS)) == "apfs"


def test_systems_that_do_not_tell(tmp_path: Path) -> None:
    assert file_system(tmp_path, tmp_path / "mountinfo") is None


def test_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    """Its nearest parent is measured, and nothing is left there."""
    found = look_at_disk("run folder", tmp_path / "not" / "yet", "write")
    assert found.problem is None
    assert found.write_mb_s is not None
    assert found.write_mb_s > 0
    assert found.pieces_mb_s is not None
    assert found.free_bytes is not None
    assert list(tmp_path.iterdir()) == []
    assert nearest(tmp_path / "not" / "yet") == tmp_path.resolve()


def test_writing_stops_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that takes 0.2 s for each block: one block and a little."""
    monkeypatch.setattr(module, "WRITE_SECONDS", 0.3)
    monkeypatch.setattr(os, "fsync", lambda handle: time.sleep(0.2))
    speeds = module.written_and_read(tmp_path)
    assert speeds["write_mb_s"] <= module.BLOCK / 0.2 / 1e6


def test_data_is_only_read(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "large").write_bytes(os.urandom(3 * 2**20))
    before = sorted(tmp_path.rglob("*"))
    found = look_at_disk("data", tmp_path, "read")
    assert found.write_mb_s is None
    assert found.read_mb_s is not None
    assert sorted(tmp_path.rglob("*")) == before
    (tmp_path / "images" / "large").unlink()
    assert look_at_disk("data", tmp_path, "read").read_mb_s is None


def test_without_posix_fadvise_it_is_said_that_memory_may_have_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "posix_fadvise", raising=False)
    monkeypatch.setattr(module, "WRITE_SECONDS", 0.0)
    assert look_at_disk("run folder", tmp_path, "write").cached


def test_a_disk_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STAT_SECONDS", 0.05)
    monkeypatch.setattr(module, "nearest", lambda folder: time.sleep(2))
    found = look_at_disk("run folder", tmp_path, "write")
    assert found.problem == "no answer within 0.05 s"
    assert found.free_bytes is None


def test_a_disk_that_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**settings: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(module.tempfile, "TemporaryFile", refuse)
    assert look_at_disk("run folder", tmp_path, "write").problem == "Permission denied"


def test_a_full_disk_is_not_filled_further(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROOM", 10**12)
    found = look_at_disk("run folder", tmp_path, "write")
    assert found.problem == "too little is free to measure it"
    assert found.write_mb_s is None
