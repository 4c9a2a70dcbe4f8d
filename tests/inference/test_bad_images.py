"""Real files that are wrong, through the whole pipeline: each is told by itself, nothing is written for it, and the others are done."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK
import torch
from PIL import Image
from torch import Tensor

from autounet.inference.model import Model, Stage
from autounet.inference.run import Predicted, PredictionJob, predict_cases
from autounet.labels import LabelSpec, StructureClass
from autounet.plan import Configuration, Normalization, Plan
from autounet.runtime import Runtime

MakePlan = Callable[..., tuple[Plan, Configuration]]
Save = Callable[[Path], None]
LABELS = LabelSpec(classes=(StructureClass(name="bright", values=(1,)),))


def block(dtype: Any = np.int16, shape: tuple[int, ...] = (9, 8, 7)) -> np.ndarray:
    """50, and 150 in the first half of the first axis (x in NIfTI, z in ITK's arrays)."""
    values = np.full(shape, 50, dtype)
    values[: shape[0] // 2] = 150
    return values


def nifti(values: np.ndarray, affine: Any = None, **header: Any) -> Save:
    """Fields of the header are set as they are, behind nibabel's back."""

    def save(path: Path) -> None:
        image = nibabel.Nifti1Image(values, np.eye(4) if affine is None else affine, dtype=values.dtype)
        nibabel.save(image, path)
        if header:
            raw = bytearray(path.read_bytes())
            fields = nibabel.Nifti1Header(bytes(raw[:348]), check=False)
            for name, value in header.items():
                fields[name] = value
            raw[:348] = fields.binaryblock
            path.write_bytes(raw)

    return save


def itk(values: np.ndarray, vector: bool = False, **geometry: Any) -> Save:
    def save(path: Path) -> None:
        image = SimpleITK.GetImageFromArray(values, isVector=vector)
        for name, value in geometry.items():
            getattr(image, f"Set{name}")(value)
        SimpleITK.WriteImage(image, str(path))

    return save


def edited(values: np.ndarray, old: str, new: str) -> Save:
    """A text header with a line changed."""

    def save(path: Path) -> None:
        itk(values)(path)
        raw = path.read_bytes()
        assert old.encode() in raw
        path.write_bytes(raw.replace(old.encode(), new.encode(), 1))

    return save


def png(values: np.ndarray) -> Save:
    return lambda path: Image.fromarray(values).save(path)


def nan_at(values: np.ndarray, value: float = np.nan) -> np.ndarray:
    spoilt = values.astype(np.float32)
    spoilt[3, 2, 1] = value
    return spoilt


def rgb_nifti() -> np.ndarray:
    pixels = np.zeros((9, 8, 7), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    pixels["R"] = 150
    return pixels


SHEARED = np.array([[1, 0.5, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
ROUNDED = np.array([[1, 0.01, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
SINGULAR = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])

ONE_AXIS = b"NRRD0004\ntype: uint8\ndimension: 1\nsizes: 5\nencoding: raw\nendian: little\n\n12345"

REFUSED: dict[str, tuple[str, Save, str]] = {
    "nan": (".nii", nifti(nan_at(block())), "found 1, the first nan at channel 0, voxel (1, 2, 3) (z, y, x)"),
    "infinite": (".nrrd", itk(nan_at(block(), np.inf)), "found 1, the first inf at channel 0, voxel (3, 2, 1) (z, y, x)"),
    "4D": (".nii.gz", nifti(block(shape=(9, 8, 7, 2))), "wrong number of channels: found 2 channels in 1 file, expected 1"),
    "4D with ITK": (".nrrd", itk(block(shape=(2, 9, 8, 7))), "wrong number of channels: found 2 channels in 1 file, expected 1"),
    "5D": (".nii", nifti(block(shape=(9, 8, 7, 2, 2))), "is not an image volume: found axis sizes (9, 8, 7, 2, 2)"),
    "vectors": (".mha", itk(block(shape=(9, 8, 7, 3)), vector=True), "wrong number of channels: found 3 channels in 1 file, expected 1"),
    "zero spacing": (".nii", nifti(block(), pixdim=[1, 0, 1, 1, 0, 0, 0, 0]), "the voxel spacing is unusable: found 0, 1, 1 mm (x, y, z)"),
    "negative spacing": (".nii", nifti(block(), pixdim=[1, 1, -2, 1, 0, 0, 0, 0]), "the voxel spacing is unusable: found 1, -2, 1 mm"),
    "no number as spacing": (".nii", nifti(block(), pixdim=[1, 1, 1, np.nan, 0, 0, 0, 0]), "spacing is unusable: found 1, 1, nan"),
    "zero spacing in MHA": (".mha", edited(block(), "ElementSpacing = 1 1 1", "ElementSpacing = 0 1 1"), "the voxel spacing is unusable"),
    "zero spacing in NRRD": (".nrrd", edited(block(), "directions: (1,0,0)", "directions: (0,0,0)"), "the voxel spacing is unusable"),
    "singular": (".nii", nifti(block(), SINGULAR, qform_code=0, sform_code=1), "sform is singular"),
    "singular in MHA": (".mha", edited(block(), "Matrix = 1 0 0 0 1", "Matrix = 1 0 0 1 0"), "the axes' directions are unusable"),
    "shear": (".nii", nifti(block(), SHEARED, qform_code=0, sform_code=1), "not at right angles: found 63.43° between x and y"),
    "shear in NRRD": (".nrrd", edited(block(), "(0,1,0)", "(0.5,1,0)"), "not at right angles: found 63.43° between x and y"),
    "shear in MHA": (".mha", edited(block(), "Matrix = 1 0 0 0 1 0", "Matrix = 1 0 0 0.5 0.866 0"), "found 60° between x and y"),
    "long axes": (".mha", edited(block(), "TransformMatrix = 1 0 0 0", "TransformMatrix = 2 0 0 0"), "the axes' directions are unusable"),
    "RGB in NIfTI": (".nii", nifti(rgb_nifti()), "voxels of this type cannot be used: found RGB colours"),
    "complex": (".nii", nifti(block(np.complex64)), "voxels of this type cannot be used: found complex numbers"),
    "RGB in PNG": (".png", png(block(np.uint8, (9, 8, 3))), "wrong number of channels: found 3 channels in 1 file, expected 1"),
    "planar": (".png", png(block(np.uint8, (9, 8))), "is a planar (2D) image"),
    "planar NIfTI": (".nii", nifti(block(shape=(9, 8))), "is a planar (2D) image"),
    "zeros": (".nii", nifti(block() * 0), "every voxel is zero"),
    "huge": (".nii", nifti(block(), pixdim=[1, 1e6, 1e6, 1e6, 0, 0, 0, 0], xyzt_units=2), "found 1e+06, 1e+06, 1e+06 mm (z, y, x)"),
    "tiny spacing": (".nii", nifti(block(), pixdim=[1, 1, 1e-6, 1, 0, 0, 0, 0], xyzt_units=2), "spacing is far from the training data's"),
    "one axis in NRRD": (".nrrd", lambda path: path.write_bytes(ONE_AXIS), "is not an image volume"),
    "endless": (".mha", edited(block(), "ElementSpacing = 1 1 1", "ElementSpacing = 1 1 1e308"), "far from the training data's"),
    "no header": (".nrrd", lambda path: path.write_bytes(b"NRRD?"), "is damaged"),
    "cut off": (".nii", lambda path: (nifti(block())(path), path.write_bytes(path.read_bytes()[:500])), "is damaged"),
    "text": (".png", lambda path: path.write_text("no image"), "is damaged"),
}  # fmt: skip
"""Name → ending, how it is made, what is said."""

TAKEN: dict[str, tuple[str, Save]] = {
    "one slice": (".nii", nifti(block(shape=(9, 8, 1)))),
    "one row": (".nii.gz", nifti(block(shape=(9, 1, 7)))),
    "one line": (".mha", itk(block(shape=(9, 1, 1)))),
    "uint64": (".nii", nifti(block(np.uint64))),
    "uint64 with ITK": (".nrrd", itk(block(np.uint64))),
    "int8 and a slope": (".nii", nifti(block(np.uint8) // 50, scl_slope=50.0, scl_inter=0.0)),
    "float64": (".mha", itk(block(np.float64))),
    "one channel as fourth axis": (".nii", nifti(block(shape=(9, 8, 7, 1)))),
    "a little shear": (".nii", nifti(block(), ROUNDED, qform_code=0, sform_code=1)),
    "a little shear in NRRD": (".nrrd", edited(block(), "(0,1,0)", "(0.01,1,0)")),
    "left-handed": (".nrrd", itk(block(), Direction=(-1, 0, 0, 0, 1, 0, 0, 0, 1))),
}
"""What is unusual and works: the label map is 1 where the image is bright."""


def above_100(patches: Tensor) -> Tensor:
    return torch.cat((100 - patches[:, :1], patches[:, :1] - 100), 1)


def predicted(plan: Plan, configuration: Configuration, folder: Path, cases: dict[str, tuple[str, Save]]) -> tuple[Predicted, list[Path]]:
    jobs = []
    (folder / "in").mkdir()
    for name, (ending, save) in cases.items():
        path = folder / "in" / f"{name}{ending}"
        save(path)
        jobs.append(PredictionJob(name, (path,), folder / "out" / path.name))
    model = Model(plan, (Stage(configuration, above_100),), torch.device("cpu"))
    return predict_cases(model, jobs, Runtime(workers=2), mirror=False), [job.output for job in jobs]


def test_each_is_told_and_the_others_are_done(tmp_path: Path, make_plan: MakePlan) -> None:
    good = (".nii", nifti(block()))
    cases = {"a good one": good, **{name: row[:2] for name, row in REFUSED.items()}, "z good one": good}
    found, _ = predicted(*make_plan(labels=LABELS), tmp_path, cases)
    told = {problem.case: problem for problem in found.problems}
    assert [problem.case for problem in found.problems] == list(REFUSED)
    for name, (_, _, message) in REFUSED.items():
        assert message in told[name].what, (name, told[name].what)
        assert name in told[name].what, told[name].what
        assert told[name].remedy, name
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a good one.nii", "z good one.nii"]
    assert found.cases == 2


def test_what_is_unusual_works(tmp_path: Path, make_plan: MakePlan) -> None:
    found, outputs = predicted(*make_plan(labels=LABELS), tmp_path, TAKEN)
    assert [problem.what for problem in found.problems] == []
    for path in outputs:
        if path.name.endswith((".nrrd", ".mha")):
            values = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))
        else:
            values = np.asarray(nibabel.load(path).dataobj)
        half = values.shape[0] // 2
        assert (values[:half] == 1).all(), path
        assert (values[half:] == 0).all(), path


@pytest.mark.parametrize("save", [png(block(np.uint8, (9, 8, 3))), png(block(np.uint8, (9, 8, 4)))], ids=["RGB", "RGBA"])
def test_colours_are_three_channels_where_the_model_has_three(tmp_path: Path, make_plan: MakePlan, save: Save) -> None:
    plan, configuration = make_plan((1.0, 1.0), schemes=(Normalization(scheme="none"),) * 3, labels=LABELS, ending=".png")
    found, (output,) = predicted(plan, configuration, tmp_path, {"cell": (".png", save)})
    assert found.problems == []
    with Image.open(output) as written:
        np.testing.assert_array_equal(np.asarray(written), block(np.uint8, (9, 8)) > 100)


def test_grey_images_are_refused_where_the_model_has_three_channels(tmp_path: Path, make_plan: MakePlan) -> None:
    plan, configuration = make_plan((1.0, 1.0), schemes=(Normalization(scheme="none"),) * 3, labels=LABELS, ending=".png")
    found, _ = predicted(plan, configuration, tmp_path, {"cell": (".png", png(block(np.uint8, (9, 8))))})
    assert "wrong number of channels: found 1 channel in 1 file, expected 3" in found.problems[0].what
