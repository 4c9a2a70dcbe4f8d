"""The Python interface: arrays, image objects and files give the same label maps, and no axis order can be mistaken."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK
import torch
from torch import Tensor

import autounet
from autounet.bundle import About, write_bundle
from autounet.checkpoint import save_weights
from autounet.errors import ImageError, UsageError
from autounet.inference import Predictor, SpacingZYX
from autounet.inference.model import Model, Stage
from autounet.labels import LabelSpec, StructureClass
from autounet.layout import RunLayout
from autounet.networks.build import build_network
from autounet.plan import Configuration, Plan
from autounet.runtime import Runtime

MakePlan = Callable[..., tuple[Plan, Configuration]]
BRIGHT = LabelSpec(classes=(StructureClass(name="bright", values=(5,)),))
SPACING = SpacingZYX(z=2.1, y=1.3, x=0.9)


def above_100(patches: Tensor) -> Tensor:
    """Scores of background and of what is brighter than 100."""
    return torch.cat((100 - patches[:, :1], patches[:, :1] - 100), 1)


@pytest.fixture
def predictor(make_plan: MakePlan) -> Predictor:
    """Resamples to 1 mm, axes turned."""
    plan, configuration = make_plan((1.0, 1.0, 1.0), transpose=(1, 2, 0), labels=BRIGHT)
    return Predictor(Model(plan, (Stage(configuration, above_100),), torch.device("cpu")), Runtime(device="cpu"))


@pytest.fixture
def image_zyx() -> np.ndarray:
    """A bright box, on the side of every axis that tells it from its mirror image, in grey with a rim of zeros."""
    image = np.zeros((10, 12, 14), np.float32)
    image[1:-1, 1:-1, 1:-1] = 50
    image[2:5, 2:5, 3:10] = 150
    return image


def test_arrays_objects_and_files_give_the_same_label_map(predictor: Predictor, image_zyx: np.ndarray, tmp_path: Path) -> None:
    """Oblique geometry; SimpleITK's and nibabel's own axis orders; what comes back lies where the image lies."""
    found = predictor.predict(image_zyx[None], SPACING)
    assert found.shape == image_zyx.shape
    assert set(np.unique(found)) == {0, 5}
    assert found[3, 3, 6] == 5
    assert found[8, 9, 11] == 0
    image: Any = SimpleITK.GetImageFromArray(image_zyx)
    image.SetSpacing((0.9, 1.3, 2.1))
    image.SetOrigin((10.0, -20.0, 30.0))
    image.SetDirection((0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, 1.0))
    labels = predictor.predict_image(image)
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(labels), found)
    assert labels.GetDirection() == image.GetDirection()
    assert labels.GetOrigin() == image.GetOrigin()
    SimpleITK.WriteImage(image, tmp_path / "case.nii.gz")
    loaded: Any = nibabel.load(tmp_path / "case.nii.gz")
    answer = predictor.predict_image(loaded)
    np.testing.assert_array_equal(np.asarray(answer.dataobj).T, found)
    np.testing.assert_array_equal(answer.affine, loaded.affine)
    done = predictor.predict_files([tmp_path / "case.nii.gz"], tmp_path / "out")
    assert (done.problems, done.cases) == ([], 1)
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(tmp_path / "out" / "case.nii.gz")), found)
    predictor.predict_files({tmp_path / "case.nii.gz": tmp_path / "named.nii.gz"})
    assert (tmp_path / "named.nii.gz").read_bytes() == (tmp_path / "out" / "case.nii.gz").read_bytes()


def test_a_spacing_must_name_its_axes(predictor: Predictor, image_zyx: np.ndarray) -> None:
    """A bare tuple could be x, y, z as SimpleITK has it."""
    spacing: Any = (2.1, 1.3, 0.9)
    with pytest.raises(ImageError, match=r"SpacingZYX\(z=…, y=…, x=…\)"):
        predictor.predict(image_zyx[None], spacing)
    with pytest.raises(TypeError):
        SpacingZYX(2.1, 1.3, 0.9)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((10, 12, 14), r"array\[None\]"),
        ((2, 10, 12, 14), "wrong number of channels"),
        ((1, 0, 3, 3), "has no voxels"),
        ((4, 4), "four axes"),
    ],
)
def test_arrays_of_another_form(predictor: Predictor, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ImageError, match=message):
        predictor.predict(np.ones(shape), SPACING)


def test_values_and_spacings_that_cannot_be_used(predictor: Predictor) -> None:
    image = np.ones((1, 9, 9, 9))
    for wrong in (0.0, 1e-6, "one", None):
        with pytest.raises(ImageError, match="spacing"):
            predictor.predict(image, SpacingZYX(z=wrong, y=1.0, x=1.0))  # type: ignore[arg-type]
    with pytest.raises(ImageError, match="is no array"):
        predictor.predict([[[[1, 2], [3]]]], SPACING)
    with pytest.raises(ImageError, match="integers or floating-point"):
        predictor.predict(image.astype(complex), SPACING)
    image[0, 1, 2, 3] = np.nan
    with pytest.raises(ImageError, match="NaN"):
        predictor.predict(image, SPACING)
    with pytest.raises(ImageError, match="every voxel is zero"):
        predictor.predict(np.zeros((1, 9, 9, 9)), SPACING)
    with pytest.raises(ImageError, match="predict_files"):
        predictor.predict_image("scan.nii.gz")


def test_image_objects_and_tensors_that_cannot_be_read(predictor: Predictor, image_zyx: np.ndarray, tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(image_zyx.T, np.eye(4)), tmp_path / "cut.nii.gz")
    content = (tmp_path / "cut.nii.gz").read_bytes()
    (tmp_path / "cut.nii.gz").write_bytes(content[:-40])
    with pytest.raises(ImageError, match="voxels cannot be read"):
        predictor.predict_image(nibabel.load(tmp_path / "cut.nii.gz"))
    for tensor in (torch.ones(1, 9, 9, 9, requires_grad=True), torch.ones(1, 9, 9, 9, dtype=torch.bfloat16)):
        with pytest.raises(ImageError, match="is no array"):
            predictor.predict(tensor, SPACING)


def test_files_must_say_where_they_go(predictor: Predictor, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a folder"):
        predictor.predict_files(["a.nii.gz"])
    with pytest.raises(UsageError, match="named twice"):
        predictor.predict_files({"a.nii.gz": "b.nii.gz"}, tmp_path)
    with pytest.raises(UsageError, match="pass for images"):
        predictor.predict_files([tmp_path / "a_0000.nii.gz"], tmp_path)
    for limit in (float("inf"), "6", -1):
        with pytest.raises(UsageError, match="memory_gb"):
            predictor.predict_files([tmp_path / "a.nii.gz"], tmp_path / "out", memory_gb=limit)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="is no path: found 1"):
        predictor.predict_files([1], tmp_path / "out")  # type: ignore[list-item]
    with pytest.raises(UsageError, match="no list of images: found None"):
        predictor.predict_files(None, tmp_path / "out")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"a\.nii\.gz is given twice"):
        predictor.predict_files(["a.nii.gz", "a.nii.gz"], tmp_path / "out")
    # Two patients' images of one name are not two channels of one patient; nor is a channel left out.
    for images in (["p1/scan.nii.gz", "p2/scan.nii.gz"], ["a_0000.nii.gz", "a_0002.nii.gz"], ["a_0000.nii.gz", "a_0001.nii.gz"]):
        with pytest.raises(UsageError, match=r"several images of this name|channel files"):
            predictor.predict_files(images, tmp_path / "out")
    with pytest.raises(UsageError, match="folds"):
        Predictor.load(tmp_path, folds=[])
    for folds in ("01", 0):
        with pytest.raises(UsageError, match="folds: must be a list"):
            Predictor.load(tmp_path, folds=folds)  # type: ignore[arg-type]
    for workers in (-1, 1.5, True):
        with pytest.raises(UsageError, match="workers"):
            Predictor.load(tmp_path, workers=workers)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="is no path"):
        Predictor.load(3)  # type: ignore[arg-type]


def test_no_image_and_no_other_label_map_is_ever_replaced(predictor: Predictor, tmp_path: Path) -> None:
    one, two = tmp_path / "one.nii.gz", tmp_path / "two.nii.gz"
    (tmp_path / "link.nii.gz").symlink_to(two)
    for images in ({one: one}, {one: two, two: tmp_path / "x.nii.gz"}, {one: tmp_path / "link.nii.gz", two: tmp_path / "x.nii.gz"}):
        with pytest.raises(UsageError, match="would replace the image"):
            predictor.predict_files(images)
    with pytest.raises(UsageError, match="two label maps"):
        predictor.predict_files({one: tmp_path / "x.nii.gz", two: tmp_path / "x.nii.gz"})


def test_the_callers_array_is_not_changed_and_threads_may_share_a_predictor(predictor: Predictor, image_zyx: np.ndarray) -> None:
    before, found = image_zyx.copy(), list[np.ndarray]()
    threads = [threading.Thread(target=lambda: found.append(predictor.predict(image_zyx[None], SPACING))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_array_equal(image_zyx, before)
    assert len(found) == 4
    assert all(np.array_equal(one, found[0]) for one in found)


def test_a_run_folder_and_the_bundle_made_of_it_predict_the_same(make_plan: MakePlan, tmp_path: Path) -> None:
    plan, configuration = make_plan(labels=BRIGHT)
    layout, state = RunLayout(tmp_path / "run"), build_network(configuration.network, 2).state_dict()
    plan.save(layout.plan)
    save_weights(layout.fold("3d_fullres", "0").weights, state, {"plan": plan.recipe("3d_fullres")})
    about = About(name="test", selection="3d_fullres", created="2026-01-01", origin="a test")
    write_bundle(tmp_path / "model.zip", about, plan, None, [("3d_fullres", "0", state)])
    folder = autounet.Predictor.load(tmp_path / "run", device="cpu", precision="fp32")
    bundle = autounet.Predictor.load(tmp_path / "model.zip", device="cpu", precision="fp32")
    assert folder.channels == bundle.channels == ("channel0",)
    assert bundle.labels == {"bright": (5,)}
    noise = np.random.default_rng(0).standard_normal((1, 10, 12, 14))
    found = bundle.predict(noise, SPACING)
    assert len(np.unique(found)) == 2
    np.testing.assert_array_equal(found, folder.predict(noise, SPACING))
