"""Images and label maps written and read by the libraries of their formats, without autounet: the other side of every comparison.

A format is one row of ``IMAGES`` (how an image of it is written) or of ``LABEL_MAPS`` (how a label map of it is read).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import nibabel
import numpy as np
import numpy.typing as npt
import SimpleITK
import tifffile

RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""NIfTI's world axes ↔ those used here: left, posterior, superior, as DICOM and ITK have them."""

Holds = Literal["spacing", "origin", "direction"]
"""How much of the geometry a format holds; each holds what stands before it, too."""
LEVELS: tuple[Holds, ...] = ("spacing", "origin", "direction")


@dataclass(frozen=True, slots=True)
class Placed:
    """Voxels and where they lie."""

    values_zyx: npt.NDArray[Any]
    affine_xyz: npt.NDArray[np.float64]
    """4x4: voxel indices (x, y, z, 1) → mm, left posterior superior."""

    @property
    def spacing_mm_xyz(self) -> npt.NDArray[np.float64]:
        """Distance of neighbouring voxels."""
        lengths: npt.NDArray[np.float64] = np.linalg.norm(self.affine_xyz[:3, :3], axis=0)
        return lengths

    def reduced(self, holds: Holds) -> "Placed":
        """What is left of the geometry in a format that holds no more."""
        affine = np.diag([*self.spacing_mm_xyz, 1.0])
        if holds == "direction":
            return self
        if holds == "origin":
            affine[:3, 3] = self.affine_xyz[:3, 3]
        return Placed(self.values_zyx, affine)

    def places(self, chosen_zyx: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
        """World positions (n, 3), mm, of the centres of the chosen voxels."""
        indices = np.argwhere(chosen_zyx)[:, ::-1]
        positions: npt.NDArray[np.float64] = indices @ self.affine_xyz[:3, :3].T + self.affine_xyz[:3, 3]
        return positions


@dataclass(frozen=True, slots=True)
class ImageFormat:
    """A way to write images."""

    ending: str
    holds: Holds
    write: Callable[[Path, Placed], None]


@dataclass(frozen=True, slots=True)
class LabelFormat:
    """A way to read label maps."""

    holds: Holds
    read: Callable[[Path], Placed]


def _write_nifti(path: Path, image: Placed, kind: type[Any] = nibabel.Nifti1Image, qform: int = 1, sform: int = 1) -> None:
    affine = RAS @ image.affine_xyz
    nifti = kind(image.values_zyx.T, affine)
    nifti.header.set_xyzt_units("mm")
    nifti.set_qform(affine, qform)
    nifti.set_sform(affine, sform)
    nibabel.save(nifti, path)


def _read_nifti(path: Path) -> Placed:
    nifti = nibabel.load(path)
    return Placed(np.asarray(nifti.dataobj).T, RAS @ nifti.affine)


def _write_itk(path: Path, image: Placed) -> None:
    itk = SimpleITK.GetImageFromArray(image.values_zyx)
    itk.SetSpacing(image.spacing_mm_xyz.tolist())
    itk.SetOrigin(image.affine_xyz[:3, 3].tolist())
    itk.SetDirection((image.affine_xyz[:3, :3] / image.spacing_mm_xyz).ravel().tolist())
    SimpleITK.WriteImage(itk, str(path), useCompression=True)


def _read_itk(path: Path) -> Placed:
    itk = SimpleITK.ReadImage(str(path))
    affine = np.eye(4)
    affine[:3, 3] = itk.TransformIndexToPhysicalPoint((0, 0, 0))
    for axis in range(3):
        step = itk.TransformContinuousIndexToPhysicalPoint([float(axis == other) for other in range(3)])
        affine[:3, axis] = np.array(step) - affine[:3, 3]
    return Placed(SimpleITK.GetArrayFromImage(itk), affine)


def _write_imagej(path: Path, image: Placed) -> None:
    # ImageJ's metadata hold pixels per unit as fractions of 32 bits.
    x, y, z = image.spacing_mm_xyz.tolist()
    tifffile.imwrite(path, image.values_zyx, imagej=True, resolution=(1 / x, 1 / y), metadata={"axes": "ZYX", "spacing": z, "unit": "mm"})


def _write_ome_tiff(path: Path, image: Placed) -> None:
    sizes: dict[str, Any] = {f"PhysicalSize{axis}": size * 1000 for axis, size in zip("XYZ", image.spacing_mm_xyz.tolist(), strict=True)}
    tifffile.imwrite(path, image.values_zyx, ome=True, photometric="minisblack", metadata={"axes": "ZYX", **sizes})


def _read_tiff(path: Path) -> Placed:
    with tifffile.TiffFile(path) as tif:
        z, y, x = tif.shaped_metadata[0]["spacing_mm_zyx"]
        values = tif.series[0].asarray()
    return Placed(values.reshape((-1, *values.shape[-2:])), np.diag([x, y, z, 1.0]))


def _write_zarr(path: Path, image: Placed, version: Literal["0.4", "0.5"]) -> None:
    import zarr

    group = zarr.open_group(path, mode="w", zarr_format=2 if version == "0.4" else 3)
    group.create_array("0", data=image.values_zyx, chunks=(4, 5, 6))
    placed = [
        {"type": "scale", "scale": image.spacing_mm_xyz[::-1].tolist()},
        {"type": "translation", "translation": image.affine_xyz[:3, 3][::-1].tolist()},
    ]
    scales = {
        "axes": [{"name": name, "type": "space", "unit": "millimeter"} for name in "zyx"],
        "datasets": [{"path": "0", "coordinateTransformations": placed}],
    }
    if version == "0.4":
        group.attrs["multiscales"] = [{"version": "0.4", **scales}]
    else:
        group.attrs["ome"] = {"version": "0.5", "multiscales": [scales]}


IMAGES: dict[str, ImageFormat] = {
    "NIfTI-1": ImageFormat(".nii.gz", "direction", _write_nifti),
    "NIfTI-1, qform": ImageFormat(".nii", "direction", partial(_write_nifti, sform=0)),
    "NIfTI-1, sform": ImageFormat(".nii.gz", "direction", partial(_write_nifti, qform=0, sform=2)),
    "NIfTI-2": ImageFormat(".nii", "direction", partial(_write_nifti, kind=nibabel.Nifti2Image)),
    "NRRD": ImageFormat(".nrrd", "direction", _write_itk),
    "NRRD, detached": ImageFormat(".nhdr", "direction", _write_itk),
    "MHA": ImageFormat(".mha", "direction", _write_itk),
    "MHD": ImageFormat(".mhd", "direction", _write_itk),
    "TIFF, ImageJ": ImageFormat(".tif", "spacing", _write_imagej),
    "TIFF, OME": ImageFormat(".ome.tif", "spacing", _write_ome_tiff),
    "OME-Zarr 0.4": ImageFormat(".zarr", "origin", partial(_write_zarr, version="0.4")),
    "OME-Zarr 0.5": ImageFormat(".ome.zarr", "origin", partial(_write_zarr, version="0.5")),
}

LABEL_MAPS: dict[str, LabelFormat] = {
    ".nii.gz": LabelFormat("direction", _read_nifti),
    ".nii": LabelFormat("direction", _read_nifti),
    ".nrrd": LabelFormat("direction", _read_itk),
    ".mha": LabelFormat("direction", _read_itk),
    ".mhd": LabelFormat("direction", _read_itk),
    ".tif": LabelFormat("spacing", _read_tiff),
}


def common(one: Holds, other: Holds) -> Holds:
    """What both formats hold."""
    return LEVELS[min(LEVELS.index(one), LEVELS.index(other))]
