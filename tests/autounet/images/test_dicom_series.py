"""Which DICOM image a path means: folders with other things in them, zips, single files; and what several are called."""

import os
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from autounet.errors import ImageError
from autounet.image_names import group_channels, image_exists, image_files, image_format, image_state
from autounet.images import read_image, read_labels, read_size
from autounet.images.dicom_cases import dicom_cases
from autounet.images.dicom_series import find_series
from tests.autounet.images.dicom_writing import image, save, save_all, series, uid, volume


def packed(folder: Path, target: Path, method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(target, "w", method) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder.parent))
    return target


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Two series in folders of their own, a scout and a screenshot, and what else lies about in a study."""
    root = tmp_path / "study"
    save_all(series(volume(), name="arterial", SeriesNumber=2, SeriesDescription="arterial"), root / "DICOM" / "SE0")
    save_all(series(volume() + 7, name="venous", SeriesNumber=5, SeriesDescription="venous"), root / "DICOM" / "SE1")
    scout = series(volume(1), orientation=(0, 1, 0, 0, 0, -1), name="scout", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    save_all(scout, root / "DICOM" / "SE2")
    save(image(volume(1)[0], SOPClassUID="1.2.840.10008.5.1.4.1.1.7", SeriesInstanceUID=uid("dose")), root / "DICOM" / "SE3" / "report")
    save(image(volume(1)[0], SOPClassUID="1.2.840.10008.5.1.4.1.1.66.4", SeriesInstanceUID=uid("seg")), root / "DICOM" / "seg.dcm")
    report = image(volume(1)[0], SOPClassUID="1.2.840.10008.5.1.4.1.1.88.33", SeriesInstanceUID=uid("sr"))
    del report.Rows, report.Columns, report.PixelData
    save(report, root / "DICOM" / "SE0" / "SR1")
    (root / "DICOM" / "SE0" / "notes.txt").write_text("IM0001 is nice")
    (root / "DICOM" / "SE0" / "._IM0003").write_bytes(b"\0\5\x16\7")
    (root / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
    (root / "viewer.exe").write_bytes(b"MZ")
    return root


def test_a_folder_of_one_series_is_an_image_wherever_it_lies_in_it(study: Path) -> None:
    for path in (study / "DICOM" / "SE0", study / "DICOM" / "SE0" / "IM0003"):
        np.testing.assert_array_equal(read_image(path)[0][0], volume())
    (study / "DICOM" / "SE1").rename(study.parent / "moved")
    np.testing.assert_array_equal(read_image(study)[0][0], volume())


def test_several_series_are_listed_with_the_path_for_each(study: Path) -> None:
    with pytest.raises(ImageError) as caught:
        read_size(study)
    text = str(caught.value)
    assert "study: holds several DICOM image series: found 2, expected one. Give one of them:" in text
    assert f"{study}/DICOM/SE0  (number 2, 'arterial', CT, 4 slices)" in text
    assert f"{study}/DICOM/SE1  (number 5, 'venous', CT, 4 slices)" in text
    assert "Secret" not in text
    assert "4711" not in text
    found = find_series(study)
    assert [(entry.number, entry.modality, entry.slices) for entry in found] == [(2, "CT", 4), (5, "CT", 4)]
    for entry, offset in zip(found, (0, 7), strict=True):
        np.testing.assert_array_equal(read_image(entry.path)[0][0], volume() + offset)
        assert [file.name for file in entry.files] == ["IM0003", "IM0010", "IM0017", "IM0024"]


def test_series_in_one_folder_are_told_apart_by_a_file_of_each(tmp_path: Path) -> None:
    one, two = series(volume(), name="one", SeriesNumber=1), series(volume() + 1, name="two", SeriesNumber=2)
    save_all([*one, *two], tmp_path / "both")
    first, second = find_series(tmp_path / "both")
    assert (first.path.name, second.path.name) == ("IM0003", "IM0031")
    np.testing.assert_array_equal(read_image(second.path)[0][0], volume() + 1)
    assert set(dicom_cases(tmp_path).values()) == {"both_1", "both_2"}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_is_read_where_it_is(study: Path, method: int) -> None:
    archive = packed(study, study.parent / "study.zip", method)
    before = sorted(study.parent.rglob("*"))
    with pytest.raises(ImageError, match=r"study\.zip: holds several DICOM image series: found 2") as caught:
        read_image(archive)
    assert f"{archive}/study/DICOM/SE1  (number 5" in str(caught.value)
    for inside, offset in (("study/DICOM/SE0", 0), ("study/DICOM/SE1", 7), ("study/DICOM/SE1/IM0017", 7)):
        np.testing.assert_array_equal(read_image(archive / inside)[0][0], volume() + offset)
    one = packed(study / "DICOM" / "SE0", study.parent / "one.ZIP", method)
    np.testing.assert_array_equal(read_image(one)[0][0], volume())
    assert read_size(one)[1] == read_size(study / "DICOM" / "SE0")[1]
    assert sorted(study.parent.rglob("*")) == sorted([*before, one])
    with pytest.raises(ImageError, match="has no file or folder 'study/SE9' in it"):
        read_image(archive / "study" / "SE9")


def test_names_in_a_zip_lead_nowhere(tmp_path: Path) -> None:
    """They are names in messages only: ``..`` and absolute paths neither write nor read anything outside."""
    target = tmp_path / "evil.zip"
    with zipfile.ZipFile(target, "w") as archive:
        for z, dataset in enumerate(series(volume())):
            archive.writestr(f"../../{'/etc' if z % 2 else 'up'}/IM{z}", save(dataset, tmp_path / "IM").read_bytes())
    (tmp_path / "IM").unlink()
    np.testing.assert_array_equal(read_image(target)[0][0], volume())
    assert [file.name for file in tmp_path.iterdir()] == ["evil.zip"]


def test_damaged_and_other_zips(tmp_path: Path) -> None:
    whole = packed(save_all(series(volume()), tmp_path / "case"), tmp_path / "case.zip").read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[:-100])
    (tmp_path / "empty.zip").write_bytes(b"")
    (tmp_path / "text.zip").write_text("no zip")
    turned = bytearray(whole)
    turned[len(whole) // 3] ^= 255
    (tmp_path / "turned.zip").write_bytes(turned)
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("readme.txt", "nothing")
    with zipfile.ZipFile(tmp_path / "none.zip", "w"):
        pass
    for name, message in (
        ("cut", "is damaged"), ("empty", "the file is empty"), ("text", "is damaged"), ("turned", "is damaged|missing|is one"),
        ("other", "no DICOM image in this zip: found 1 other files"), ("none", "no DICOM image in this zip: found no files"),
        ("gone", "no such file"),
    ):  # fmt: skip
        with pytest.raises(ImageError, match=message):
            read_image(tmp_path / f"{name}.zip")


def test_a_bomb_in_a_zip_is_not_unpacked(tmp_path: Path) -> None:
    """A slice of 5×6 pixels whose file goes on with zeros for more than can be header and pixels."""
    slices = series(volume(1))
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        whole = save(slices[0], tmp_path / "IM").read_bytes()
        claimed = whole[:-64] + (5 * 2**25).to_bytes(4, "little")
        with archive.open("IM1", "w", force_zip64=True) as entry:
            entry.write(claimed)
            for _ in range(5):
                entry.write(bytes(2**25))
    assert read_size(tmp_path / "bomb.zip")[1].shape_zyx == (1, 5, 6)
    with pytest.raises(ImageError, match="is damaged"):
        read_image(tmp_path / "bomb.zip")


def test_a_slice_that_was_cut_off_does_not_go_missing(tmp_path: Path) -> None:
    """The last slice of a stack leaves no gap: that its file is empty, or no DICOM, is told by its name."""
    folder = save_all(series(volume()), tmp_path / "case")
    (folder / "IM0024").write_bytes(b"")
    with pytest.raises(ImageError, match="IM0024: is damaged, incomplete or of another format: found 0 bytes"):
        read_image(folder)
    (folder / "IM0024").rename(folder / "other.dcm")
    with pytest.raises(ImageError, match=r"other\.dcm: is damaged"):
        read_size(folder)
    (folder / "other.dcm").rename(folder / "report")
    assert read_image(folder)[0].shape == (1, 3, 5, 6)


def test_folders_and_files_without_dicom(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.txt").write_text("a")
    (tmp_path / "a.dcm").write_text("no DICOM")
    for path, message in (
        (tmp_path / "empty", "no DICOM image in this folder: found no files"),
        (tmp_path / "text", "no DICOM image in this folder: found 1 other files"),
        (tmp_path / "a.dcm", r"a\.dcm: is"),
        (tmp_path / "gone.dcm", "no such file"),
        (tmp_path / "text" / "a.txt", "file type not supported"),
    ):
        with pytest.raises(ImageError, match=message):
            read_image(path)
    with pytest.raises(ImageError, match="holds no structures: found DICOM CT Image Storage"):
        read_labels(save(image(volume(1)[0]), tmp_path / "b.dcm"))


def test_without_pydicom_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(image(volume(1)[0]), tmp_path / "a.dcm")
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(ImageError, match=r"needs a package that is not installed: pydicom\. Install it: pip install 'autounet\[dicom\]'"):
        read_image(path)


def test_names(tmp_path: Path) -> None:
    """What is an image in a folder, which format it is, and which are channels of one case."""
    for channel in (0, 1):
        save_all(series(volume()), tmp_path / f"case_000{channel}")
        packed(tmp_path / "case_0000", tmp_path / f"other_000{channel}.zip")
    save(image(volume(1)[0]), tmp_path / "xray.dcm")
    save(image(volume(1)[0]), tmp_path / "IM1")  # not by its name, but where it is given
    (tmp_path / "notes").mkdir()
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as archive:
        archive.writestr("a.nii.gz", "no DICOM")
    found = image_files(tmp_path)
    assert [file.name for file in found] == ["case_0000", "case_0001", "other_0000.zip", "other_0001.zip", "xray.dcm"]
    assert {case: len(files) for case, files in group_channels(found).items()} == {"case": 2, "other": 2, "xray": 1}
    assert {image_format(file) for file in [*found, tmp_path / "IM1", tmp_path / "other_0000.zip" / "case_0000" / "IM0003"]} == {".dcm"}
    assert image_format(tmp_path / "gone") == ""
    assert all(image_exists(file) for file in found)
    assert not image_exists(tmp_path / "gone")


def test_what_changes_in_a_folder_changes_its_state(tmp_path: Path) -> None:
    folder = save_all(series(volume()), tmp_path / "case")
    before = image_state(folder)
    assert before[0] == sum(file.stat().st_size for file in folder.iterdir())
    with (folder / "IM0003").open("ab") as file:
        file.write(b"\0")
    assert image_state(folder)[0] == before[0] + 1
    archive = packed(folder, tmp_path / "case.zip")
    os.utime(max(folder.rglob("*")), ns=(10**18, 10**18))  # replaced by an older file of the same size
    assert image_state(folder) not in (before, (before[0] + 1, before[1]))
    assert image_state(archive / "case") == image_state(archive) == (archive.stat().st_size, archive.stat().st_mtime_ns)


def test_names_of_cases_in_a_tree(study: Path) -> None:
    root = study.parent
    save_all(series(volume(), name="head"), root / "patient2" / "deep" / "down")
    for number in (1, 2):
        save(image(volume(1)[0] + number, SeriesInstanceUID=uid("xrays")), root / "xrays" / f"a{number}.dcm")
    names = {path.relative_to(root).as_posix(): name for path, name in dicom_cases(root).items()}
    assert names == {
        "study/DICOM/SE0": "study_DICOM_SE0",
        "study/DICOM/SE1": "study_DICOM_SE1",
        "patient2": "patient2",
        "xrays/a1.dcm": "xrays_a1",
        "xrays/a2.dcm": "xrays_a2",
    }
    assert list(dicom_cases(root / "patient2").values()) == ["deep"]
    assert list(dicom_cases(root / "patient2" / "deep" / "down").values()) == ["down"]
    assert list(dicom_cases(root / "xrays").values()) == ["a1", "a2"]
    archive = packed(study, root / "all.zip")
    assert list(dicom_cases(archive).values()) == ["all_study_DICOM_SE0", "all_study_DICOM_SE1"]
    alone = packed(root / "patient2", root / "alone.zip")
    assert dicom_cases(alone) == {alone: "alone"}
