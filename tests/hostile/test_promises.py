"""What SECURITY.md promises, one test each: nothing is executed, nothing is opened that blocks, nothing is written elsewhere."""

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from autounet.checkpoint import load_state
from autounet.cli.main import run
from autounet.dataset import read_dataset
from autounet.errors import ArtefactError, AutounetError, DatasetError, ImageError
from autounet.geometry import Grid
from autounet.images import read_image, read_size, write_labels
from autounet.interop.nnunet_postprocessing import read_nnunet_postprocessing
from autounet.plan import Plan
from autounet.preprocessing.store import Store
from autounet.text_files import MOST_BYTES, read_text
from benchmarks.fuzz.commands import make_run
from benchmarks.fuzz.dicom import elements_of, slice_file, zipped
from benchmarks.fuzz.documents import small_plan
from benchmarks.fuzz.models import DANGEROUS
from benchmarks.fuzz.watch import Watch, judge

ZERO = Path("/dev/zero")
GRID = Grid(shape_zyx=(3, 4, 5), spacing_mm_zyx=(2.0, 1.0, 1.0))
needs_pipes = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in the file system here")


class Touch:
    """A pickle that would make a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, (f"touch {self.path}",))


def spoken(*words: object) -> tuple[int, str]:
    """Exit code and all that a command says."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = run([str(word) for word in words])
    return code, out.getvalue() + err.getvalue()


# Nothing is executed --------------------------------------------------------------------------------------------------------


def test_the_watch_sees_what_it_must_not_miss(watch: Watch, tmp_path: Path) -> None:
    """The judge itself: code, processes, files elsewhere and tracebacks are findings; an error of ours is none."""

    def refuses() -> None:
        raise ImageError("x.nii: is damaged")

    faults: dict[str, Callable[[], object]] = {
        "exec": lambda: exec("1 + 1"),
        "os.system": lambda: os.system("true"),
        "pickle.find_class": lambda: pickle.loads(pickle.dumps(Touch(tmp_path / "x"))),
        "opens": lambda: Path("/etc/hostname").read_text(),
        "os.mkdir": lambda: Path("/not-of-autounet").mkdir(),
        "ZeroDivisionError": lambda: 1 // 0,
    }
    for word, act in faults.items():
        assert word in (judge(act, watch, tmp_path) or ""), word
    assert judge(refuses, watch, tmp_path) is None
    assert judge(lambda: (tmp_path / "inside").mkdir(), watch, tmp_path) is None


def test_a_training_state_with_code_is_refused_and_the_code_does_not_run(tmp_path: Path, watch: Watch) -> None:
    path, mark = tmp_path / "resume.pt", tmp_path / "mark"
    torch.save({"network": Touch(mark)}, path)
    assert judge(lambda: load_state(path), watch, tmp_path) is None
    with pytest.raises(ArtefactError, match="checkpoint cannot be read"):
        load_state(path)
    assert not mark.exists()


@pytest.mark.parametrize("payload", DANGEROUS[:-2], ids=range(len(DANGEROUS) - 2))  # the last two are harmless
def test_pickles_that_would_run_something_are_refused(payload: bytes, tmp_path: Path, watch: Watch) -> None:
    """Alone as nnU-Net's postprocessing, and as the pickle of a training state."""
    steps, state = tmp_path / "postprocessing.pkl", tmp_path / "resume.pt"
    steps.write_bytes(payload)
    torch.save({"a": 1}, state)
    with zipfile.ZipFile(state) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(state, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, payload if name.endswith("data.pkl") else content)
    for read, path in ((read_nnunet_postprocessing, steps), (load_state, state)):
        assert judge(lambda read=read, path=path: read(path), watch, tmp_path) is None  # type: ignore[misc]
        with pytest.raises(AutounetError):
            read(path)


# Nothing is opened that has no end ------------------------------------------------------------------------------------------


@needs_pipes
@pytest.mark.timeout(20)
def test_pipes_and_devices_are_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "dataset.json")
    with pytest.raises(DatasetError, match="a pipe or a device, not a file"):
        read_dataset(tmp_path)
    os.mkfifo(tmp_path / "plan.json")
    with pytest.raises(ArtefactError, match="a pipe or a device, not a file"):
        Plan.load(tmp_path / "plan.json")
    for name in ("a.nii", "a.nrrd", "a.mha", "a.tif", "a.png"):
        os.mkfifo(tmp_path / name)
        for read in (read_image, read_size):
            with pytest.raises(ImageError, match="is not a file"):
                read(tmp_path / name)
    (tmp_path / "b.mhd").write_text("ObjectType = Image\nNDims = 3\nDimSize = 2 2 2\nElementType = MET_UCHAR\nElementDataFile = pipe.raw\n")
    os.mkfifo(tmp_path / "pipe.raw")
    with pytest.raises(ImageError, match=r"no file 'pipe\.raw', which holds the voxels"):
        read_image(tmp_path / "b.mhd")


@pytest.mark.skipif(not ZERO.exists(), reason="no such device here")
@pytest.mark.timeout(20)
def test_a_link_to_a_device_without_end_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "plan.json").symlink_to(ZERO)
    with pytest.raises(ArtefactError, match="a pipe or a device"):
        Plan.load(tmp_path / "plan.json")
    (tmp_path / "a.nii").symlink_to(ZERO)
    with pytest.raises(ImageError, match="is not a file"):
        read_image(tmp_path / "a.nii")


def test_text_beyond_the_limit_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "large.json"
    with path.open("wb") as file:
        file.truncate(MOST_BYTES + 1)  # takes no space
    with pytest.raises(OSError, match="larger than 256 MiB"):
        read_text(path)


# Nothing is asked for that a small file cannot need -----------------------------------------------------------------------------


def test_headers_that_claim_more_than_their_file_can_hold(tmp_path: Path) -> None:
    """Each of a few hundred bytes, and of many gigabytes by its own word."""
    import nibabel as nib

    header = nib.Nifti1Header()
    header.set_data_dtype(np.float32)
    header.set_data_shape((10_000, 10_000, 10_000))
    header["magic"], header["vox_offset"] = b"n+1", 352
    (tmp_path / "a.nii").write_bytes(header.binaryblock + bytes(100))
    (tmp_path / "b.nrrd").write_text("NRRD0005\ntype: float\ndimension: 3\nsizes: 10000 10000 10000\nencoding: raw\nendian: little\n\n")
    (tmp_path / "c.mha").write_text(
        "ObjectType = Image\nNDims = 3\nDimSize = 10000 10000 10000\nElementType = MET_FLOAT\nElementDataFile = LOCAL\n"
    )
    jpeg = Path(__file__).parent / "corpus" / "jpg" / "a_frame_that_claims_gigabytes"
    (tmp_path / "d.jpg").write_bytes(jpeg.read_bytes())
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(ImageError, match="damaged"):
            read_image(path)


# Nothing is read or written elsewhere ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [b"DS", b"IS", b"US", b"FD", b"LO", b"AT"])
def test_dicom_elements_of_another_kind(kind: bytes, judged: Callable[[str, bytes], str | None]) -> None:
    """Whatever an element holds by the standard, a file may say that it is a number, a text or a tag."""
    whole = slice_file(0)
    for start, length, usual in elements_of(whole):
        if whole[start - 8 : start - 6] == b"\x02\x00" or usual in (b"OB", b"OW"):  # what describes the file, and the pixels
            continue
        for value in (b"5 ", b"7\\8 ", b"\0\0\0\0\0\0\xf0\x7f"):
            changed = whole[: start - 4] + kind + len(value).to_bytes(2, "little") + value + whole[start + length :]
            assert judged("dicom", zipped({"changed": changed, "sound": slice_file(1)})) is None, (whole[start - 8 : start - 4], value)


def test_headers_do_not_lead_to_files_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "secret.raw").write_bytes(bytes(range(8)))
    (tmp_path / "in").mkdir()
    meta = "ObjectType = Image\nNDims = 3\nDimSize = 2 2 2\nElementType = MET_UCHAR\nElementDataFile = {}\n"
    nrrd = "NRRD0005\ntype: uchar\ndimension: 3\nsizes: 2 2 2\nencoding: raw\ndata file: {}\n\n"
    for named in ("../secret.raw", str(tmp_path / "secret.raw"), "LIST 3D\n../secret.raw", "../secret.%03d 0 1 1"):
        for name, text in (("a.mhd", meta), ("a.nrrd", nrrd), ("a.nhdr", nrrd)):
            (tmp_path / "in" / name).write_text(text.format(named))
            with pytest.raises(ImageError):
                read_image(tmp_path / "in" / name)
    (tmp_path / "in" / "a.mhd").write_text(meta.format("own.raw"))
    (tmp_path / "in" / "own.raw").write_bytes(bytes(range(8)))
    assert read_image(tmp_path / "in" / "a.mhd")[0].ravel().tolist() == list(range(8))


@pytest.mark.parametrize("name", ["../../x", "/tmp/x", "a/b", "..", "", "a\0b", ".hidden"])
def test_a_configuration_is_called_as_a_folder_can_be(name: str, tmp_path: Path) -> None:
    content = json.loads(small_plan("3d_fullres").to_json())
    chosen = content["configurations"].pop("3d_fullres")
    content["configurations"][name] = {**chosen, "name": name}
    with pytest.raises(ArtefactError, match="plan is malformed at 'configurations"):
        Plan.from_json(json.dumps(content), "plan.json")


@pytest.mark.filterwarnings("ignore")
def test_the_name_in_a_plan_does_not_lead_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``autounet export`` calls its file after the dataset, which a plan that somebody gave may call anything."""
    home = tmp_path / "a" / "b"
    home.mkdir(parents=True)
    layout = make_run(home)
    plan = small_plan("3d_fullres").model_copy(update={"dataset": "../../../escaped"})
    plan.save(layout.plan)
    monkeypatch.chdir(home)
    code, said = spoken("export", "-d", "Dataset001_Livers", "--runs", home / "runs")
    assert code == 0, said
    assert [path.name for path in home.glob("*.zip")] == [".._.._.._escaped.zip"]
    assert not list(tmp_path.glob("*.zip"))
    assert not list((tmp_path / "a").glob("*.zip"))


@pytest.mark.filterwarnings("ignore")
def test_a_plan_of_a_run_folder_is_judged_before_a_network_is_made(tmp_path: Path) -> None:
    """As one in a bundle is: 10^15 weights are refused by their number, not by the lack of memory."""
    layout = make_run(tmp_path)
    content = json.loads(layout.plan.read_text())
    content["configurations"]["3d_fullres"]["network"]["features"] = [99_999, 99_999]
    content["configurations"]["3d_fullres"]["network"]["kernel_sizes"] = [[31, 31, 31], [31, 31, 31]]
    layout.plan.write_text(json.dumps(content))
    code, said = spoken(
        "predict", "-d", "Dataset001_Livers", "-i", tmp_path / "images", "-o", tmp_path / "out", "--runs", tmp_path / "runs"
    )
    assert code == 1, said
    assert "parameters, more than" in " ".join(said.split())


def test_a_prepared_case_is_the_one_of_its_name(tmp_path: Path) -> None:
    """A description that names another case would lead to other files."""
    from benchmarks.fuzz.documents import KINDS

    store = Store(tmp_path, "recipe")
    assert KINDS["prepared case"] is not None
    trace = {"grid": GRID.model_dump(mode="json"), "transpose": [0, 1, 2], "box": {"start": [0, 0, 0], "stop": [3, 4, 5]},
             "prepared_shape": [3, 4, 5]}  # fmt: skip
    for name in ("a.b2nd", "a.seg.b2nd"):
        (tmp_path / name).write_bytes(b"x")
    for case, found in (("a", True), ("../b", False)):
        kind = {"kind": "prepared case", "schema_version": KINDS["prepared case"].VERSION, "made_from": {"recipe": "recipe"}}
        content = {**kind, "case": case, "trace": trace, "sources": [], "file_bytes": [1, 1], "foreground_counts": []}
        (tmp_path / "a.json").write_text(json.dumps(content))
        assert (store.find("a") is not None) == found


# What is shown -------------------------------------------------------------------------------------------------------------------


def test_messages_are_short_and_move_no_cursor() -> None:
    error = ImageError("a\x1b[2Jb\ud800.nii", found="x" * 10**6, expected="‮", remedy="r" * 5000)
    text = str(error)
    assert len(text) < 5000
    assert text.startswith("a\\x1b[2Jb\\ud800.nii: found xxx")
    assert text.encode("utf-8")
    assert "‮" not in text


def test_case_names_that_no_file_can_have(tmp_path: Path) -> None:
    for folder in ("imagesTr", "labelsTr"):
        (tmp_path / folder).mkdir()
        write_labels(tmp_path / folder / "a.nii.gz", np.zeros((3, 4, 5), np.uint8), GRID)
    entry = {"images": ["imagesTr/a.nii.gz"], "label": "labelsTr/a.nii.gz"}
    about = {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "liver": 1}}
    for case in ("../../x", "/x", "..", "a\0b", "x" * 300, "a/b", "\ud800"):
        (tmp_path / "dataset.json").write_text(json.dumps({**about, "dataset": {case: entry}}))
        with pytest.raises(DatasetError, match=r"^[^:]*: 1 problem "):
            read_dataset(tmp_path)
    for file in ("x" * 300 + ".nii.gz", "a\0b.nii.gz", "\ud800.nii.gz"):
        (tmp_path / "dataset.json").write_text(json.dumps({**about, "dataset": {"a": {**entry, "images": [file]}}}))
        with pytest.raises(DatasetError, match=r"malformed|problem"):
            read_dataset(tmp_path)
