"""Images in memory, of SimpleITK and nibabel ↔ arrays (c, z, y, x) and grids; exactly what reading the saved image would give."""

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from autounet.errors import ImageError
from autounet.geometry import Grid
from autounet.images.nifti_geometry import placement_of, unit_mm
from autounet.images.stored import check_right_angles, make_grid

NAME = "image"
"""What an image in memory is called in messages."""

FloatArray = npt.NDArray[np.float32]


def read_object(image: Any) -> tuple[FloatArray, Grid]:
    """An image, or one image per channel, as array and grid.

    Args:
        image: A SimpleITK image (components or a fourth axis are channels), a nibabel NIfTI image (a fourth axis is channels), or a
            sequence of such images on one grid, each one channel.

    Raises:
        ImageError: It is something else, its numbers or geometry are unusable, or the channels' grids differ.
    """
    if not isinstance(image, Sequence):
        return _read_one(image, NAME)
    if not image:
        raise ImageError("no image was given", found="an empty list", expected="one image per channel")
    read = [_read_one(channel, f"{NAME} {number}") for number, channel in enumerate(image)]
    grid = read[0][1]
    for number, (array, own) in enumerate(read):
        if len(array) != 1:
            raise ImageError(f"{NAME} {number}: wrong number of channels", found=len(array), expected="1 in each of several images")
        differences = grid.differences(own)
        if differences:
            raise ImageError(
                f"{NAME} {number}: is not on the same grid as image 0",
                found="; ".join(differences),
                expected="equal grids for all channels",
                remedy="register and resample the channels onto one of them",
            )
    return np.concatenate([array for array, _ in read]), grid


def label_object(labels_zyx: npt.NDArray[Any], image: Any) -> Any:
    """A label map as an image of the same kind as ``image`` (the first of several), with its geometry."""
    like = image[0] if isinstance(image, Sequence) else image
    return _nibabel_labels(labels_zyx, like) if _is_from(like, "nibabel") else _sitk_labels(labels_zyx, like)


def to_float32(array: Any, name: str) -> FloatArray:
    """Real numbers of any type as float32; what is beyond its range becomes infinite. Raises ImageError."""
    try:
        values = np.asarray(array)
    except (ValueError, TypeError, RuntimeError) as error:  # lists of unlike lengths, tensors that NumPy does not take
        raise ImageError(f"{name}: is no array", found=str(error).split(".")[0], expected="a NumPy array of numbers") from None
    if values.dtype.kind not in "biuf":
        raise ImageError(f"{name}: voxels of this type cannot be used", found=values.dtype, expected="integers or floating-point numbers")
    with np.errstate(over="ignore", invalid="ignore"):
        return np.ascontiguousarray(values, dtype=np.float32)


def _read_one(image: Any, name: str) -> tuple[FloatArray, Grid]:
    if _is_from(image, "nibabel"):
        return _read_nibabel(image, name)
    if _is_from(image, "SimpleITK"):
        return _read_sitk(image, name)
    raise ImageError(
        f"{name}: cannot be used as an image",
        found=f"{type(image).__module__}.{type(image).__qualname__}",
        expected="a SimpleITK image, a nibabel NIfTI image, or a list of them, one per channel",
        remedy="for an array call predict(array_czyx, SpacingZYX(...)), for files predict_files",
    )


def _is_from(image: Any, library: str) -> bool:
    """Whether an object's class, or one it derives from, is a library's; which need not be loaded to ask."""
    return any(kind.__module__.split(".")[0] == library for kind in type(image).__mro__)


def _read_sitk(image: Any, name: str) -> tuple[FloatArray, Grid]:
    import SimpleITK

    axes, components = int(image.GetDimension()), int(image.GetNumberOfComponentsPerPixel())
    if axes not in (2, 3, 4) or (axes == 4 and components > 1):
        raise ImageError(
            f"{name}: is not an image volume", found=f"{axes} axes, {components} components", expected="numbers on 2, 3 or 4 axes"
        )
    values = to_float32(SimpleITK.GetArrayViewFromImage(image), name)
    if components > 1:
        values = np.ascontiguousarray(np.moveaxis(values, -1, 0))
    elif axes < 4:
        values = values[None]
    czyx = values if values.ndim == 4 else values[:, None]
    spatial = min(axes, 3)
    direction = np.eye(3)
    direction[:spatial, :spatial] = np.array(image.GetDirection()).reshape(axes, axes)[:spatial, :spatial]
    check_right_angles(Path(name), direction)
    x, y, z = (*image.GetOrigin()[:spatial], 0.0)[:3]
    spacing = tuple(image.GetSpacing()[:spatial])
    return _copied(czyx, image), make_grid(
        Path(name), czyx.shape, spacing, ndim=spatial, origin_mm_xyz=(x, y, z), direction=tuple(direction.ravel().tolist())
    )


def _copied(values: FloatArray, image: Any) -> FloatArray:
    """An array of its own: a view of an ITK image dies with it."""
    return values if values.flags.owndata else values.copy()


def _sitk_labels(labels_zyx: npt.NDArray[Any], like: Any) -> Any:
    import SimpleITK

    axes = int(like.GetDimension())
    spatial = min(axes, 3)
    labels: Any = SimpleITK.GetImageFromArray(labels_zyx if spatial == 3 else labels_zyx[0])
    labels.SetSpacing(like.GetSpacing()[:spatial])
    labels.SetOrigin(like.GetOrigin()[:spatial])
    labels.SetDirection(np.array(like.GetDirection()).reshape(axes, axes)[:spatial, :spatial].ravel().tolist())
    return labels


def _read_nibabel(image: Any, name: str) -> tuple[FloatArray, Grid]:
    import nibabel

    if not isinstance(image, nibabel.Nifti1Pair):  # of which all of NIfTI derive
        raise ImageError(
            f"{name}: is not a NIfTI image",
            found=type(image).__name__,
            expected="nibabel.Nifti1Image or nibabel.Nifti2Image",
            remedy="convert it with nibabel.Nifti1Image.from_image(image)",
        )
    sizes = tuple(int(size) for size in image.shape)
    extra = [size for size in sizes[3:] if size > 1]
    if len(sizes) < 2 or len(extra) > 1 or 0 in sizes:
        raise ImageError(f"{name}: is not an image volume", found=f"axis sizes {sizes}", expected="2, 3 or 4 axes")
    x, y, z = (*sizes[:3], 1)[:3]
    try:
        values = np.asanyarray(image.dataobj)
    except (OSError, EOFError, zlib.error) as error:  # it is read only now
        raise ImageError(f"{name}: its voxels cannot be read", found=error, remedy="copy the file again from its source") from None
    czyx = to_float32(values.T, name).reshape(-1, z, y, x)
    spatial, header = min(len(sizes), 3), image.header
    spacing = tuple(float(value) * unit_mm(header) for value in header["pixdim"][1 : spatial + 1])
    make_grid(Path(name), czyx.shape, spacing)
    placed = placement_of(header, Path(name))
    spacing = (placed.spacing_mm_xyz or spacing)[:spatial]
    return czyx, make_grid(Path(name), czyx.shape, spacing, ndim=spatial, origin_mm_xyz=placed.origin_mm_xyz, direction=placed.direction)


def _nibabel_labels(labels_zyx: npt.NDArray[Any], like: Any) -> Any:
    """The source's header with its geometry and the labels' own type; what it says of intensities is left out."""
    spatial = min(len(like.shape), 3)
    header = like.header.copy()
    header.set_data_dtype(labels_zyx.dtype)
    header.set_slope_inter(1, 0)
    header["cal_max"] = header["cal_min"] = 0
    values_xyz = (labels_zyx if spatial == 3 else labels_zyx[0]).T
    header.set_data_shape(values_xyz.shape)
    return type(like)(values_xyz, like.affine, header)
