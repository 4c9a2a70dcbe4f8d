"""One image through all stages of a model, in memory; cascades as nnU-Net has them."""

from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from autounet.errors import ImageError
from autounet.geometry import Grid
from autounet.images import read_image
from autounet.inference.model import Model, Stage
from autounet.inference.passes import Forward
from autounet.inference.run import PredictionJob, predict_cases
from autounet.inference.segment import WindowOptions, patches_per_pass, segment
from autounet.labels import LabelSpec, StructureClass
from autounet.plan import Configuration, Plan
from autounet.preprocessing.resample import resample_labels
from autounet.runtime import Runtime

CPU = torch.device("cpu")
MakePlan = Callable[..., tuple[Plan, Configuration]]

LABELS = LabelSpec(classes=(StructureClass(name="low", values=(2,)), StructureClass(name="high", values=(7,))))
REGIONS = LabelSpec(
    classes=(StructureClass(name="whole", values=(1, 2)), StructureClass(name="core", values=(2,))), overlapping=True, paint_order=(1, 2)
)


def steps(patches: Tensor) -> Tensor:
    """Background below 50, ``low`` from 50, ``high`` from 100: scores that are largest there."""
    value = patches[:, :1]
    return torch.cat((-value / 50, value * 0 - 1, value / 50 - 3), 1)


def region_steps(patches: Tensor) -> Tensor:
    """``whole`` from 50, ``core`` from 100."""
    return torch.cat((patches[:, :1] - 50, patches[:, :1] - 100), 1)


def volume(seed: int = 0, shape: tuple[int, int, int] = (12, 14, 10)) -> npt.NDArray[np.float32]:
    """A smooth image from 1 to 150, with a margin and holes of zeros."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 1.5)
    image = (1 + 149 * (noise - noise.min()) / np.ptp(noise)).astype(np.float32)
    image[:2] = image[:, :1] = 0
    image[-1, :5] = 0
    return image[None]


def model_of(plan: Plan, *stages: tuple[Configuration, Forward]) -> Model:
    return Model(plan, tuple(Stage(*stage) for stage in stages), CPU)


def test_an_image_in_memory_gives_what_its_file_gives(tmp_path: Path, make_plan: MakePlan) -> None:
    plan, configuration = make_plan((1.0, 1.5, 0.8), transpose=(2, 0, 1), patch=(6, 6, 8), labels=LABELS)
    image = volume()
    affine = np.diag([-1.1, -1.2, 1.3, 1.0])
    job = PredictionJob("a", (tmp_path / "a_0000.nii.gz",), tmp_path / "out" / "a.nii.gz")
    nibabel.save(nibabel.Nifti1Image(image[0].transpose(2, 1, 0), affine), job.images[0])
    model = model_of(plan, (configuration, steps))
    assert predict_cases(model, [job], Runtime(workers=0)).problems == []
    before, told = image.copy(), list[tuple[int, int]]()
    _, grid = read_image(job.images[0])  # spacings as the file has them, rounded to float32
    found = segment(model, image, grid, "a", advance=lambda done, total: told.append((done, total)))
    np.testing.assert_array_equal(found, np.asarray(nibabel.load(job.output).dataobj).transpose(2, 1, 0))
    assert set(np.unique(found)) == {0, 2, 7}
    np.testing.assert_array_equal(image, before)
    assert told == [(number + 1, told[-1][1]) for number in range(len(told))]


def test_options_do_not_change_the_labels(make_plan: MakePlan) -> None:
    plan, configuration = make_plan((1.0, 1.0, 1.0), patch=(6, 6, 8), labels=LABELS)
    image, grid = volume(), Grid(shape_zyx=(12, 14, 10), spacing_mm_zyx=(1.0, 1.0, 1.0))
    model = model_of(plan, (configuration, steps))
    expected = segment(model, image, grid, "a")
    np.testing.assert_array_equal(segment(model, image, grid, "a", WindowOptions(mirror=False)), expected)
    assert (segment(model, image, grid, "a", WindowOptions(limit_bytes=10)) != expected).mean() < 0.01  # float16 in a file


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((1, 4, 4, 4)), "every voxel is zero"),
        (np.full((1, 4, 4, 4), np.nan), "NaN"),
        (np.ones((2, 4, 4, 4)), "wrong number of channels"),
    ],
)
def test_images_that_cannot_be_segmented(make_plan: MakePlan, image: npt.NDArray[np.float64], message: str) -> None:
    plan, configuration = make_plan(labels=LABELS)
    grid = Grid(shape_zyx=(4, 4, 4), spacing_mm_zyx=(1.0, 1.0, 1.0))
    with pytest.raises(ImageError, match=f"upload: .*{message}"):
        segment(model_of(plan, (configuration, steps)), image.astype(np.float32), grid, "upload")


@pytest.mark.parametrize("labels", [LABELS, REGIONS], ids=["labels", "regions"])
def test_a_cascades_second_stage_sees_the_first_ones_labels(make_plan: MakePlan, labels: LabelSpec) -> None:
    """By hand: the first stage's map on the image's grid, cropped, -1 outside, resampled as labels, one channel per foreground label.

    With regions too, the channels are those of the labels that are painted. The second network repeats what it is told of label 1.
    """
    plan, low = make_plan((2.0, 2.0, 2.0), patch=(4, 4, 6), labels=labels)
    high = low.model_copy(update={"name": "3d_cascade_fullres", "spacing_mm": (1.0, 0.9, 0.8), "patch_size": (16, 16, 16)})
    image, grid = volume(), Grid(shape_zyx=(12, 14, 10), spacing_mm_zyx=(1.0, 1.0, 1.0))
    coarse = region_steps if labels.overlapping else steps
    first = segment(model_of(plan, (low, coarse)), image, grid, "a", WindowOptions(mirror=False))
    seen: list[Tensor] = []

    def second(x: Tensor) -> Tensor:
        seen.append(x[0])
        told = x[:, 1:2] - 0.5
        return told.repeat(1, 2, 1, 1, 1) * torch.tensor([1.0, -1.0])[:, None, None, None] if labels.overlapping else _three(told)

    found = segment(model_of(plan, (low, coarse), (high, second)), image, grid, "a", WindowOptions(mirror=False))
    assert len(seen) == 1  # the patch holds the whole image
    nonzero = ndimage.binary_fill_holes(image[0] != 0)[2:, 1:]
    indices = np.searchsorted((0, *labels.foreground_values), first[2:, 1:]).astype(np.int8)
    indices[(indices == 0) & ~nonzero] = -1
    assert (indices == -1).any()
    resampled = resample_labels(torch.from_numpy(indices), (10, 14, 12), None).numpy()
    channels = seen[0][1:, 3:13, 1:15, 2:14].numpy()  # the patch's 16 sides less 10, 14 and 12, half of it in front
    np.testing.assert_array_equal(channels, np.stack([resampled == 1, resampled == 2]).astype(np.float32))
    assert (resampled == 1).any()
    assert seen[0][1:].sum() == channels.sum()
    expected = first == labels.foreground_values[0]
    assert (found == labels.foreground_values[0])[expected].mean() > 0.8  # the way there and back blurs edges
    assert (found == labels.foreground_values[0])[~expected].mean() < 0.1


def _three(told: Tensor) -> Tensor:
    return torch.cat((-told, told, told * 0 - 9), 1)


def test_cascades_of_files(tmp_path: Path, make_plan: MakePlan) -> None:
    plan, low = make_plan((2.0, 2.0, 2.0), patch=(4, 4, 6), labels=LABELS)
    high = low.model_copy(update={"name": "3d_cascade_fullres", "spacing_mm": (1.0, 0.9, 0.8), "patch_size": (6, 6, 6)})
    model = model_of(plan, (low, steps), (high, lambda x: _three(x[:, 1:2] - 0.5)))
    jobs, grid = [], Grid(shape_zyx=(12, 14, 10), spacing_mm_zyx=(1.0, 1.0, 1.0))
    for seed in range(3):
        jobs.append(PredictionJob(str(seed), (tmp_path / f"{seed}.nii.gz",), tmp_path / "out" / f"{seed}.nii.gz"))
        nibabel.save(nibabel.Nifti1Image(volume(seed)[0].transpose(2, 1, 0), np.diag([-1.0, -1.0, 1.0, 1.0])), jobs[-1].images[0])
    assert predict_cases(model, jobs, Runtime(workers=2)).problems == []
    for seed, job in enumerate(jobs):
        expected = segment(model, volume(seed), grid, "a")
        np.testing.assert_array_equal(np.asarray(nibabel.load(job.output).dataobj).transpose(2, 1, 0), expected)
        assert 2 in expected


def test_small_patches_go_together_and_large_ones_alone(make_plan: MakePlan) -> None:
    for patch, on_cpu in (((128, 128, 128), 1), ((40, 56, 40), 1), ((32, 40, 48), 2), ((8, 8, 8), 8)):
        assert patches_per_pass(make_plan(patch=patch)[1], CPU) == on_cpu
    assert patches_per_pass(make_plan(patch=(128, 128, 128))[1], torch.device("cuda")) == 4
