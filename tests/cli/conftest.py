"""The command line as its users meet it: commands run in this process, on small generated datasets."""

import io
import json
import logging
import shutil
from collections.abc import Callable
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from autounet.cli.main import run

SHORT = ("--epochs", "2", "--iterations", "2", "--device", "cpu", "--workers", "1")
VOLUMES = "Dataset011_Boxes"
CELLS = "Dataset012_Cells"


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        """Both streams without the lines of tables."""
        return " ".join((self.out + self.err).replace("│", " ").split())


Autounet = Callable[..., Ended]
Refused = Callable[..., Ended]


def run_here(*arguments: object, cwd: Path | None = None) -> Ended:
    """``autounet ARGUMENTS`` in this process; the logger is left as it was found."""
    logger = logging.getLogger("autounet")
    before = logger.handlers, logger.level, logger.propagate
    out, err = io.StringIO(), io.StringIO()
    try:
        with redirect_stdout(out), redirect_stderr(err), chdir(cwd or Path.cwd()):
            code = run([str(argument) for argument in arguments])
    finally:
        logger.handlers, logger.level, logger.propagate = before
    return Ended(code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="session")
def autounet() -> Autounet:
    """Runs a command and tells how it ended."""
    return run_here


@pytest.fixture
def refused() -> Refused:
    """Runs a command that must fail: one error, in plain words, with these words in it, and nothing on standard output."""

    def check(code: int, words: list[str], *arguments: object, cwd: Path | None = None) -> Ended:
        ended = run_here(*arguments, cwd=cwd)
        assert ended.code == code, ended
        assert "Traceback" not in ended.err
        assert "unexpected" not in ended.err
        assert ended.err.count("error:") + ended.err.count("─ Error ─") == 1, ended.err
        missing = [word for word in words if word.lower() not in ended.text.lower()]
        assert not missing, (missing, ended.err)
        return ended

    return check


def rotated_affine() -> np.ndarray:
    """Voxels of 0.9×1.1×2.5 mm (x, y, z), turned by 0.3 about z and 0.2 about x, with an origin off zero."""
    turn_z = np.array([[np.cos(0.3), -np.sin(0.3), 0], [np.sin(0.3), np.cos(0.3), 0], [0, 0, 1]])
    turn_x = np.array([[1, 0, 0], [0, np.cos(0.2), -np.sin(0.2)], [0, np.sin(0.2), np.cos(0.2)]])
    affine = np.eye(4)
    affine[:3, :3] = turn_z @ turn_x @ np.diag([0.9, 1.1, 2.5])
    affine[:3, 3] = (-30.25, 12.5, 7.125)
    return affine


def save_nifti(path: Path, array_zyx: np.ndarray, affine: np.ndarray | None = None) -> None:
    """Writes an array in z, y, x."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.ascontiguousarray(array_zyx.T), rotated_affine() if affine is None else affine), path)


def write_volumes(root: Path, cases: int = 6) -> Path:
    """Boxes (value 1) with a small core (value 3: the values have a gap) in 20×24×28 voxels, as nnU-Net lays them out."""
    rng = np.random.default_rng(0)
    for number in range(cases):
        labels = np.zeros((20, 24, 28), np.uint8)
        low = rng.integers(2, 5, 3)
        labels[low[0] : low[0] + 10, low[1] : low[1] + 12, low[2] : low[2] + 14] = 1
        labels[8:11, 10:14, 12:17] = 3
        image = (100 + 40 * labels + 5 * rng.normal(size=labels.shape)).astype(np.int16)
        save_nifti(root / "imagesTr" / f"box_{number:02d}_0000.nii.gz", image)
        save_nifti(root / "labelsTr" / f"box_{number:02d}.nii.gz", labels)
    content = {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "box": 1, "core": 3}, "file_ending": ".nii.gz"}
    (root / "dataset.json").write_text(json.dumps({**content, "numTraining": cases}))
    return root


def write_cells(root: Path, cases: int = 5) -> Path:
    """Bright rectangles in grey PNG images of 48×56 pixels; labels by value, as the Decathlon writes them."""
    rng = np.random.default_rng(0)
    for name in ("imagesTr", "labelsTr"):
        (root / name).mkdir(parents=True)
    rows = []
    for number in range(cases):
        labels = np.zeros((48, 56), np.uint8)
        labels[10 + number : 30, 12:40] = 1
        image = np.clip(80 + 90 * labels + 10 * rng.normal(size=labels.shape), 0, 255).astype(np.uint8)
        Image.fromarray(image).save(root / "imagesTr" / f"cell_{number}.png")
        Image.fromarray(labels).save(root / "labelsTr" / f"cell_{number}.png")
        rows.append({"image": f"./imagesTr/cell_{number}.png", "label": f"./labelsTr/cell_{number}.png"})
    content = {"modality": {"0": "light"}, "labels": {"0": "background", "1": "cell"}, "training": rows}
    (root / "dataset.json").write_text(json.dumps(content))
    return root


def edit_json(path: Path, **changes: object) -> None:
    """Replaces keys of a JSON object; None removes one."""
    content = {**json.loads(path.read_text(encoding="utf-8")), **changes}
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def snapshot(*folders: Path) -> dict[str, tuple[int, int]]:
    """Every file below the folders with its size and the time it was written."""
    files = [file for folder in folders for file in sorted(folder.rglob("*")) if file.is_file()]
    return {str(file): (file.stat().st_size, file.stat().st_mtime_ns) for file in files}


def made_in(folder: Path) -> set[str]:
    """Files below a folder that a command left there, apart from its record."""
    record = {"run.log", "manifest.json", ".lock"}
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file() and file.name not in record}


@dataclass(frozen=True)
class Trained:
    """Two datasets and what the commands made of them."""

    data: Path
    runs: Path
    plan: Ended
    train: Ended
    plan_cells: Ended
    train_cells: Ended

    @property
    def volumes(self) -> Path:
        """The dataset of volumes."""
        return self.data / VOLUMES

    @property
    def cells(self) -> Path:
        """The dataset of planar images."""
        return self.data / CELLS


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """``plan`` and ``train -f 0`` on volumes and on planar images. Tests that change something work on a copy of ``runs``."""
    folder = tmp_path_factory.mktemp("job")
    data, runs = folder / "data", folder / "runs"
    write_volumes(data / VOLUMES)
    write_cells(data / CELLS)
    where = ("--data", data, "--runs", runs)
    return Trained(
        data,
        runs,
        plan=run_here("plan", "-d", "11", "--preset", "small", *where),
        train=run_here("train", "-d", "11", "-f", "0", *SHORT, *where),
        plan_cells=run_here("plan", "-d", "Dataset012", "--preset", "small", *where),
        train_cells=run_here("train", "-d", "Dataset012", "-f", "0", *SHORT, *where),
    )


@pytest.fixture
def runs_copy(trained: Trained, tmp_path: Path) -> Path:
    """A copy of the runs that a test may spoil."""
    return Path(shutil.copytree(trained.runs, tmp_path / "runs"))


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the person who runs the tests; and a width at which no message is broken."""
    for name in ("AUTOUNET_DATA", "AUTOUNET_RUNS", "nnUNet_raw", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "300")


@pytest.fixture(scope="session")
def kit() -> SimpleNamespace:
    """The helpers of this file."""
    return SimpleNamespace(
        save_nifti=save_nifti, write_volumes=write_volumes, write_cells=write_cells, edit_json=edit_json, snapshot=snapshot,
        made_in=made_in, rotated_affine=rotated_affine, short=SHORT, volumes=VOLUMES, cells=CELLS,
    )  # fmt: skip
