"""A bright object goes in, and must lie in the same place of the world when it comes out: examples, and the check of one.

The whole way of ``autounet predict`` is gone: reading, transposing, cropping, resampling, the window, restoring, writing. Only the network
is a threshold, so that it is known where the object is. What is written is read by another library (``benchmarks/image_files.py``).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from hypothesis import strategies as st
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation
from torch import Tensor

from autounet.inference.model import Model, Stage
from autounet.inference.run import PredictionJob, predict_cases
from autounet.labels import LabelSpec, StructureClass
from autounet.plan import Configuration, LossSpec, NetworkSpec, Normalization, Plan, PlanRequest
from autounet.planners.presets import PRESETS
from autounet.preset import NNUNET_OPTIMIZER
from autounet.runtime import Runtime
from benchmarks.image_files import IMAGES, LABEL_MAPS, PAIRS, LabelFormat, Placed, common

BRIGHT, DARK, THRESHOLD = 150, 50, 100
VALUE = 5
"""The object's label."""
LABELS = LabelSpec(classes=(StructureClass(name="bright", values=(VALUE,)),))
SAME_PLACE = 0.02
"""So much of a voxel may two positions differ: what float32 headers round."""


@dataclass(frozen=True, slots=True)
class Example:
    """An image with a box, and what is done with it."""

    formats: tuple[str, str]
    """Of the image, of the label map."""
    shape_zyx: tuple[int, int, int]
    spacing_mm_xyz: tuple[float, float, float]
    origin_mm: tuple[float, float, float]
    axes: tuple[int, int, int]
    """World axis along which each array axis x, y, z runs, before it is turned."""
    flips: tuple[int, int, int]
    turn: tuple[float, float, float]
    """Euler angles, radians."""
    lean: tuple[float, float]
    """How far each slice is shifted against the one before, along x and y, as a part of their distance."""
    transpose: tuple[int, int, int]
    """The plan's."""
    finer: tuple[float, float, float]
    """The network's spacing as a part of the image's, per axis z, y, x; 1 where nothing is resampled."""
    margin: int
    """Zeros around the body, which are cropped."""
    seed: int
    """Of where the object lies."""


def examples(pairs: Sequence[tuple[str, str]] = PAIRS, resampled: bool = False) -> st.SearchStrategy[Example]:
    """Examples of these formats (of images, of label maps), and of all geometries and axis orders."""
    side = st.integers(9, 24) if resampled else st.integers(5, 24)
    length = st.floats(0.1, 7).map(lambda value: round(value, 4))
    angle = st.sampled_from([0.0]) | st.floats(-3.1, 3.1)
    shift = st.just(0.0) | st.floats(-0.5, 0.5)  # up to 30 degrees
    orders = st.permutations((0, 1, 2)).map(lambda order: (order[0], order[1], order[2]))
    factor = st.floats(0.5, 2).map(lambda value: round(value, 3)) if resampled else st.just(1.0)
    return st.builds(
        Example,
        formats=st.sampled_from(pairs),
        shape_zyx=st.tuples(side if resampled else side | st.just(1), side, side),
        spacing_mm_xyz=st.tuples(length, length, length),
        origin_mm=st.tuples(*[st.floats(-500, 500)] * 3),
        axes=orders,
        flips=st.tuples(*[st.sampled_from([-1, 1])] * 3),
        turn=st.tuples(angle, angle, angle),
        lean=st.tuples(shift, shift),
        transpose=orders,
        finer=st.tuples(factor, factor, factor),
        margin=st.integers(0, 1),
        seed=st.integers(0, 2**16),
    ).map(_with_slices)


def _with_slices(example: Example) -> Example:
    z, y, x = example.shape_zyx
    return replace(example, shape_zyx=(max(z, IMAGES[example.formats[0]].least_slices), y, x))


def placed_image(example: Example) -> tuple[Placed, npt.NDArray[np.bool_]]:
    """The image of an example, and where the object is in it: random voxels, or a box where something is resampled."""
    rng = np.random.default_rng(example.seed)
    values = np.zeros(example.shape_zyx, np.int16)
    values[tuple(slice(example.margin, size - example.margin) if size > 2 else slice(None) for size in example.shape_zyx)] = DARK
    inside = np.zeros(example.shape_zyx, bool)
    if example.finer == (1.0, 1.0, 1.0):
        inside[values > 0] = rng.random(int((values > 0).sum())) < 0.3
        inside[tuple(size // 2 for size in example.shape_zyx)] = True
    else:
        starts = [int(rng.integers(2, size - 5)) for size in example.shape_zyx]
        stops = [int(rng.integers(start + 4, size - 1)) for start, size in zip(starts, example.shape_zyx, strict=True)]
        inside[tuple(slice(start, stop) for start, stop in zip(starts, stops, strict=True))] = True
    values[inside] = BRIGHT
    affine = np.eye(4)
    axes = np.eye(3)[:, list(example.axes)] * example.flips
    axes[:, 2] += axes[:, :2] @ example.lean
    axes /= np.linalg.norm(axes, axis=0)
    affine[:3, :3] = Rotation.from_euler("xyz", example.turn).as_matrix() @ axes * example.spacing_mm_xyz
    affine[:3, 3] = example.origin_mm
    return Placed(values, affine), inside


def threshold(patches: Tensor, limit: float) -> Tensor:
    """A network: scores of background and of what is brighter than the limit in the first channel, from unchanged intensities."""
    return torch.cat((limit - patches[:, :1], patches[:, :1] - limit), 1)


def threshold_model(
    spacing_mm_zyx: tuple[float, ...],
    transpose: tuple[int, int, int] = (0, 1, 2),
    *,
    channels: int = 1,
    limit: float = THRESHOLD,
    patch: tuple[int, ...] = (16, 24, 20),
) -> Model:
    """A model that finds what is bright; the spacing and the patch have two values for planar images."""
    ndim = len(spacing_mm_zyx)
    schemes = (Normalization(scheme="none"),) * channels
    network = NetworkSpec(
        kind="plain",
        ndim=2 if ndim == 2 else 3,
        in_channels=channels,
        outputs=LABELS.outputs,
        features=(4, 4),
        strides=((1,) * ndim, (2,) * ndim),
        kernel_sizes=((3,) * ndim,) * 2,
        blocks_encoder=(1, 1),
        blocks_decoder=(1,),
    )
    configuration = Configuration(
        name="2d" if ndim == 2 else "3d_fullres",
        spacing_mm=tuple(spacing_mm_zyx[axis] for axis in transpose) if ndim == 3 else spacing_mm_zyx,
        median_shape=(8.0,) * ndim,
        patch_size=patch,
        batch_size=2,
        batch_dice=False,
        normalization=schemes,
        network=network,
        mirror_axes=(),
        decisions=(),
    )
    plan = Plan(
        made_from={},
        dataset="Dataset001_Test",
        request=PlanRequest(preset=PRESETS["nnunet"]),
        epochs=1,
        optimizer=NNUNET_OPTIMIZER,
        augmentation="nnunet",
        loss=LossSpec(),
        ndim=ndim,
        channels=tuple(f"channel{number}" for number in range(channels)),
        labels=LABELS,
        file_ending=".nii.gz",
        transpose=transpose,
        configurations={configuration.name: configuration},
        decisions=(),
    )
    return Model(plan, (Stage(configuration, partial(threshold, limit=limit)),), torch.device("cpu"))


def predicted(model: Model, images: tuple[Path, ...], output: Path) -> Path:
    """The label map of one case, by the way that ``autounet predict`` goes. Raises AssertionError with what went wrong."""
    done = predict_cases(model, [PredictionJob("case", images, output)], Runtime(workers=0), mirror=False)
    assert not done.problems, done.problems
    return output


def check(example: Example, folder: Path) -> None:
    """Predicts an example and compares places; raises AssertionError where they differ."""
    image, inside = placed_image(example)
    written, read = IMAGES[example.formats[0]], LABEL_MAPS[example.formats[1]]
    # Between formats of which one holds less, only what both hold can agree: the image is made without the rest.
    image = image.reduced(common(written.holds, read.holds))
    path = folder / f"case{written.ending}"
    written.write(path, image)
    target = tuple(float(mm * part) for mm, part in zip(image.spacing_mm_xyz[::-1], example.finer, strict=True))
    output = predicted(threshold_model(target, example.transpose), (path,), folder / f"label{example.formats[1]}")
    found = places_in(output, read, image)
    if example.finer == (1.0, 1.0, 1.0):
        assert_same_places(image.places(inside), found, SAME_PLACE * image.spacing_mm_xyz.min())
    else:
        assert_within_a_voxel(image, inside, found, np.array(target[::-1]))


def places_in(output: Path, read: LabelFormat, image: Placed) -> npt.NDArray[np.float64]:
    """World positions (n, 3), mm, of the voxels that a label map has marked."""
    if read.places is not None:
        return read.places(output, image)
    assert read.read is not None
    found = read.read(output)
    assert found.values_zyx.shape == image.values_zyx.shape
    assert set(np.unique(found.values_zyx)) <= {0, VALUE}
    return found.places(found.values_zyx == VALUE)


def assert_same_places(expected: npt.NDArray[np.float64], found: npt.NDArray[np.float64], tolerance_mm: float) -> None:
    """As many positions, and at each expected one a found one and the other way round."""
    assert len(found) == len(expected), f"{len(found)} voxels, not {len(expected)}"
    for here, there in ((expected, found), (found, expected)):
        distance = cKDTree(there).query(here)[0].max()
        assert distance <= tolerance_mm, f"{distance:.4g} mm apart, more than {tolerance_mm:.4g}"


def assert_within_a_voxel(
    image: Placed, inside: npt.NDArray[np.bool_], found: npt.NDArray[np.float64], target_mm_xyz: npt.NDArray[Any]
) -> None:
    """What is found lies within the box, and fills it, up to one voxel of the coarser of the two grids on each side.

    Args:
        image: The source and its place.
        inside: The box in it.
        found: World positions of what was found.
        target_mm_xyz: The network's spacing along the image's axes.
    """
    indices = np.argwhere(inside)[:, ::-1]
    low, high = indices.min(0), indices.max(0)
    voxel = np.maximum(target_mm_xyz / image.spacing_mm_xyz, 1) + SAME_PLACE
    back = (found - image.affine_xyz[:3, 3]) @ np.linalg.inv(image.affine_xyz[:3, :3]).T
    assert len(back), "nothing was found"
    assert (back >= low - voxel).all(), f"reaches {(low - back.min(0)).max():.3g} voxels out of the box"
    assert (back <= high + voxel).all(), f"reaches {(back.max(0) - high).max():.3g} voxels out of the box"
    core = indices[((indices >= low + voxel) & (indices <= high - voxel)).all(1)]
    if len(core):
        assert cKDTree(back).query(core)[0].max() <= SAME_PLACE, "the middle of the box is missing"
