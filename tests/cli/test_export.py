"""One-file models: ``export`` and ``import`` write them, ``predict -m`` uses them, and what is no such file is refused in one line."""

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy import ndimage

from autounet.bundle import Bundle
from tests.autounet.interop import conftest as nnunet
from tests.autounet.interop.test_nnunet_postprocessing import REAL as KEEP_LARGEST_OF_LIVER

Autounet = Callable[..., Any]
Refused = Callable[..., Any]


make = nnunet.make


@pytest.fixture(scope="module")
def exported(trained: Any, autounet: Autounet, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """``export`` of the model of volumes."""
    path = tmp_path_factory.mktemp("export") / "boxes.zip"
    command = ("export", "-d", "11", "-o", path, "--licence", "CC0", "--description", "Boxes.", "--runs", trained.runs)
    return SimpleNamespace(path=path, ended=autounet(*command), command=command)


def predict(images: Path, output: Path, model: Path, *more: object) -> tuple[object, ...]:
    return ("predict", "-i", images, "-o", output, "-m", model, "--device", "cpu", "--precision", "fp32", "--no-mirror", *more)


def test_export_says_what_is_in_the_file_and_how_to_use_it(exported: SimpleNamespace, trained: Any) -> None:
    ended, size = exported.ended, exported.path.stat().st_size
    assert ended.code == 0, ended
    assert f"{exported.path}: 3d_fullres with 1 fold, {size / 1e6:.1f} MB" in ended.out
    assert f"predict with it: autounet predict -m {exported.path} -i images/ -o labels/" in ended.out
    assert Bundle.open(exported.path).manifest.example == "autounet predict -m boxes.zip -i images/ -o labels/"
    weights = trained.runs / trained.volumes.name / "models" / "3d_fullres" / "fold_0" / "weights.safetensors"
    assert size < weights.stat().st_size + 50_000
    about = Bundle.open(exported.path).manifest.about
    assert (about.name, about.licence, about.description, about.selection) == ("Dataset011_Boxes", "CC0", "Boxes.", "3d_fullres")


def test_a_bundle_predicts_what_its_run_folder_predicts(
    exported: SimpleNamespace, trained: Any, autounet: Autounet, tmp_path: Path
) -> None:
    """The file has been moved where no run folder is, and says what it predicts with."""
    moved = Path(shutil.copy(exported.path, tmp_path / "elsewhere.zip"))
    images = trained.volumes / "imagesTr" / "box_03_0000.nii.gz"
    of_folder = autounet(*predict(images, tmp_path / "one", trained.runs / trained.volumes.name))
    of_bundle = autounet(*predict(images, tmp_path / "two", moved, "--runs", tmp_path / "nowhere"))
    assert (of_folder.code, of_bundle.code) == (0, 0), of_bundle
    assert "Dataset011_Boxes, 3d_fullres, fold 0: 1 image" in of_bundle.err
    first, second = (nib.load(tmp_path / folder / "box_03.nii.gz") for folder in ("one", "two"))
    np.testing.assert_array_equal(first.get_fdata(), second.get_fdata())
    np.testing.assert_array_equal(first.affine, second.affine)


def test_planar_models_are_exported_under_the_datasets_name(trained: Any, autounet: Autounet, tmp_path: Path) -> None:
    ended = autounet("export", "-d", "12", "--runs", trained.runs, "--json", cwd=tmp_path)
    said = json.loads(ended.out)
    assert said["bundle"] == "Dataset012_Cells.zip"
    assert said["configurations"] == {"2d": ["0"]}
    assert said["bytes"] == (tmp_path / "Dataset012_Cells.zip").stat().st_size
    assert "it says nothing about its licence" in ended.err
    ended = autounet(*predict(trained.cells / "imagesTr" / "cell_1.png", tmp_path / "out", tmp_path / "Dataset012_Cells.zip"))
    assert ended.code == 0, ended
    assert [path.name for path in (tmp_path / "out").glob("[!.]*")] == ["cell_1.png"]


def test_export_replaces_nothing_unless_told(exported: SimpleNamespace, refused: Refused, autounet: Autounet) -> None:
    before = exported.path.read_bytes()
    refused(2, ["boxes.zip: is there already", "--overwrite"], *exported.command)
    assert autounet(*exported.command, "--overwrite").code == 0
    assert exported.path.read_bytes() == before  # same content, same day: same file


def test_export_of_what_is_not_trained_is_refused(trained: Any, refused: Refused, tmp_path: Path) -> None:
    where = ("-o", tmp_path / "out" / "m.zip", "--runs", trained.runs)
    refused(2, ["-c 2d: not trained", "3d_fullres"], "export", "-d", "11", "-c", "2d", *where)
    refused(2, ["fold 3 of 3d_fullres: not trained"], "export", "-d", "11", "-f", "3", *where)
    refused(2, ["several datasets are trained"], "export", *where)
    refused(2, ["is a folder"], "export", "-d", "11", "-o", tmp_path, "--runs", trained.runs)
    refused(2, ["--licence or --description"], "export", "-d", "11", "--licence", "\x1b[2J", *where)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_export_of_damaged_weights_writes_nothing(runs_copy: Path, kit: SimpleNamespace, refused: Refused, tmp_path: Path) -> None:
    weights = runs_copy / kit.volumes / "models" / "3d_fullres" / "fold_0" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    refused(1, ["weights cannot be read"], "export", "-d", "11", "-o", tmp_path / "out" / "m.zip", "--runs", runs_copy)
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == []


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flip(data: bytes) -> bytes:
    middle = len(data) // 2  # among the weights, which are nearly all of it
    return data[:middle] + bytes([data[middle] ^ 8]) + data[middle + 1 :]


@pytest.mark.parametrize(
    ("change", "words"), [(cut, "is no zip, or a damaged one"), (flip, "weights.safetensors' cannot be read"), (lambda _: b"x", "no zip")]
)
def test_a_damaged_bundle_is_one_error_and_nothing_is_written(
    change: Callable[[bytes], bytes], words: str, exported: SimpleNamespace, trained: Any, refused: Refused, tmp_path: Path
) -> None:
    model = tmp_path / "model.zip"
    model.write_bytes(change(exported.path.read_bytes()))
    refused(1, [str(model), words], *predict(trained.volumes / "imagesTr", tmp_path / "out", model))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [model]


def test_a_bundle_with_a_pickle_is_refused(exported: SimpleNamespace, trained: Any, refused: Refused, tmp_path: Path) -> None:
    model = Path(shutil.copy(exported.path, tmp_path / "model.zip"))
    with zipfile.ZipFile(model, "a") as archive:
        archive.writestr("evil.pkl", b"cos\nsystem\n(S'touch gone'\ntR.")
    refused(1, ["evil.pkl", "does not belong there"], *predict(trained.volumes / "imagesTr", tmp_path / "out", model), cwd=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.zip"]


def test_what_is_no_model_is_wrong_usage(exported: SimpleNamespace, trained: Any, refused: Refused, tmp_path: Path) -> None:
    images = trained.volumes / "imagesTr"
    refused(2, ["no such file or folder"], *predict(images, tmp_path / "out", tmp_path / "nothing.zip"))
    refused(2, ["not a run folder", "plan.json", "autounet export"], *predict(images, tmp_path / "out", images))
    refused(2, ["-c 2d: not in", "found 3d_fullres"], *predict(images, tmp_path / "out", exported.path, "-c", "2d"))
    refused(2, ["fold 4 of 3d_fullres: not in", "found fold 0"], *predict(images, tmp_path / "out", exported.path, "-f", "4"))
    assert list(tmp_path.iterdir()) == []


# ---- models of nnU-Net's


@pytest.fixture
def images(tmp_path: Path, kit: SimpleNamespace) -> Path:
    """One image, as the imported models take them."""
    image = np.random.default_rng(0).normal(size=(6, 10, 12)).astype(np.float32)
    kit.save_nifti(tmp_path / "images" / "case_0000.nii.gz", image)
    return tmp_path / "images"


def test_an_nnunet_model_is_imported_and_predicts(make: Callable[..., Path], images: Path, autounet: Autounet, tmp_path: Path) -> None:
    folder = make(folds=("0", "1"), trainer="nnUNetTrainerOfMine")
    model = tmp_path / "imported.zip"
    ended = autounet("import", folder, "-o", model, "--licence", "CC0")
    assert ended.code == 0, ended
    assert f"{model}: 3d_fullres with 2 folds" in ended.out
    assert "warning: trained by nnUNetTrainerOfMine, which autounet does not know" in ended.err
    assert Bundle.open(model).manifest.about.origin == "nnU-Net v2 (nnUNetPlans, trained by nnUNetTrainerOfMine)"
    for fold, shown in ((None, "folds 0, 1: 1 image"), ("1", "fold 1: 1 image")):
        output = tmp_path / f"labels_{fold}"
        ended = autounet(*predict(images, output, model, *(() if fold is None else ("-f", fold))))
        assert ended.code == 0, ended
        assert f"Dataset001_Test, 3d_fullres, {shown}" in ended.err
        assert nib.load(output / "case.nii.gz").shape == (12, 10, 6)


def test_postprocessing_of_a_bundle_is_done_unless_it_is_not_wanted(
    make: Callable[..., Path], images: Path, autounet: Autounet, tmp_path: Path
) -> None:
    """nnU-Net's own postprocessing.pkl, which keeps the largest component of label 1; a head of noise makes many."""

    def noise(content: dict[str, Any]) -> None:
        for name, tensor in content["network_weights"].items():
            if "seg_layers" in name:
                tensor.normal_(generator=torch.Generator().manual_seed(0)) if name.endswith("weight") else tensor.zero_()

    folder = make(change=noise)
    (folder / "postprocessing.pkl").write_bytes(KEEP_LARGEST_OF_LIVER)
    model = tmp_path / "imported.zip"
    assert autounet("import", folder, "-o", model).code == 0
    done, left_out = (
        autounet(*predict(images, tmp_path / "a", model)),
        autounet(*predict(images, tmp_path / "b", model, "--no-postprocessing")),
    )
    assert "postprocessing: only the largest component of liver is kept (--no-postprocessing leaves it out)" in done.err
    assert "postprocessing" not in left_out.err
    before, after = (np.asarray(nib.load(tmp_path / name / "case.nii.gz").dataobj) for name in ("b", "a"))
    parts, _ = ndimage.label(before == 1, np.ones((3, 3, 3)))
    sizes = np.bincount(parts.ravel())[1:]
    assert len(sizes) > 1
    np.testing.assert_array_equal(after == 1, np.isin(parts, 1 + np.flatnonzero(sizes == sizes.max())))
    np.testing.assert_array_equal(after == 2, before == 2)


def test_import_refuses_in_one_line(make: Callable[..., Path], refused: Refused, tmp_path: Path) -> None:
    folder = make()
    model = tmp_path / "imported.zip"
    refused(2, ["no such file or folder"], "import", tmp_path / "nothing", "-o", model)
    refused(2, ["--checkpoint newest", "final or best"], "import", folder, "-o", model, "--checkpoint", "newest")
    refused(1, ["no fold with checkpoint_best.pth"], "import", folder, "-o", model, "--checkpoint", "best")
    refused(2, ["fold 3 is not there"], "import", folder, "-o", model, "-f", "3")
    (folder / "fold_0" / "checkpoint_final.pth").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    refused(1, ["is no checkpoint"], "import", folder, "-o", model)
    (tmp_path / "some.zip").write_bytes(b"")
    refused(1, ["is no zip"], "import", tmp_path / "some.zip", "-o", model)
    refused(2, ["is the model itself"], "import", tmp_path / "some.zip", "-o", tmp_path / "some.zip", "--overwrite")
    assert not model.exists()
