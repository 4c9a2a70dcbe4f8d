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

Holds = Literal["spacing", "origin", "direction", "leaning"]
"""How much of the geometry a format holds, up to slices that are shifted against each other; each holds what stands before it, too."""
LEVELS: tuple[Holds, ...] = ("spacing", "origin", "direction", "leaning")


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
        if holds == "leaning":
            return self
        affine = np.diag([*self.spacing_mm_xyz, 1.0])
        if holds == "direction":
            affine[:] = self.affine_xyz
            normal = np.cross(affine[:3, 0], affine[:3, 1])
            affine[:3, 2] = normal * (np.sign(normal @ self.affine_xyz[:3, 2]) * self.spacing_mm_xyz[2] / np.linalg.norm(normal))
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
    """Nothing where an image is a folder without one."""
    holds: Holds
    write: Callable[[Path, Placed], None]
    least_slices: int = 1
    """2 where a volume of one slice cannot be told from a planar image."""


@dataclass(frozen=True, slots=True)
class LabelFormat:
    """A way to read label maps: as voxels or, of formats that are no array of voxels, the places of the one object in them."""

    holds: Holds
    read: Callable[[Path], Placed] | None = None
    places: Callable[[Path, Placed], npt.NDArray[np.float64]] | None = None
    """(file, the image that it belongs to) → world positions (n, 3), mm, of the image's voxels that are inside."""
    of: str | None = None
    """The only format of images that these can belong to."""


def _write_nifti(path: Path, image: Placed, kind: type[Any] = nibabel.Nifti1Image, qform: int = 1, sform: int = 1) -> None:
    affine = RAS @ image.affine_xyz
    nifti = kind(image.values_zyx.T, affine)
    nifti.header.set_xyzt_units("mm")
    nifti.set_qform(affine, qform)
    nifti.set_sform(affine, sform)
    nibabel.save(nifti, path)


def read_nifti(path: Path) -> Placed:
    """With nibabel."""
    nifti = nibabel.load(path)
    return Placed(np.asarray(nifti.dataobj).T, RAS @ nifti.affine)


def _write_itk(path: Path, image: Placed) -> None:
    itk = SimpleITK.GetImageFromArray(image.values_zyx)
    itk.SetSpacing(image.spacing_mm_xyz.tolist())
    itk.SetOrigin(image.affine_xyz[:3, 3].tolist())
    itk.SetDirection((image.affine_xyz[:3, :3] / image.spacing_mm_xyz).ravel().tolist())
    SimpleITK.WriteImage(itk, str(path), useCompression=True)


def read_itk(path: Path) -> Placed:
    """With SimpleITK."""
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
    group.create_array("0", data=image.values_zyx, chunks=tuple(size // 3 + 1 for size in image.values_zyx.shape))
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


CT = "1.2.840.10008.5.1.4.1.1.2"


def _write_dicom(path: Path, image: Placed) -> None:
    """One file per slice; names are in no order."""
    import pydicom
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    path.mkdir()
    known = {
        **{"SOPClassUID": CT, "Modality": "CT", "PatientName": "Test", "PatientID": "1", "PatientBirthDate": "", "PatientSex": "O"},
        **{"StudyDate": "20200101", "StudyTime": "120000", "AccessionNumber": "", "ReferringPhysicianName": "", "StudyID": "1"},
        **{"SeriesNumber": 1, "SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2", "BitsAllocated": 16, "BitsStored": 16},
        **{"HighBit": 15, "PixelRepresentation": 1, "RescaleSlope": 1, "RescaleIntercept": 0},
        **{name: generate_uid() for name in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")},
    }
    directions = image.affine_xyz[:3, :3] / image.spacing_mm_xyz
    for number, plane in enumerate(image.values_zyx):
        slice_ = pydicom.Dataset()
        for name, value in known.items():
            setattr(slice_, name, value)
        slice_.SOPInstanceUID, slice_.InstanceNumber = generate_uid(), number + 1
        slice_.Rows, slice_.Columns = plane.shape
        slice_.PixelSpacing = _decimals(image.spacing_mm_xyz[[1, 0]])
        slice_.SliceThickness = _decimals(image.spacing_mm_xyz[2:])[0]
        slice_.ImageOrientationPatient = _decimals(directions[:, :2].T.ravel())
        slice_.ImagePositionPatient = _decimals(image.affine_xyz[:3, 3] + number * image.affine_xyz[:3, 2])
        slice_.PixelData = plane.astype("<i2").tobytes()
        slice_.file_meta = pydicom.dataset.FileMetaDataset()
        slice_.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        slice_.save_as(path / f"{(number * 7 + 3) % 101:03d}.dcm", enforce_file_format=True)


def _decimals(values: npt.NDArray[np.float64]) -> list[str]:
    """Numbers in the at most 16 characters that DICOM gives them."""
    return [f"{value:.9f}"[:16] for value in values.tolist()]


def _places_of_segments(path: Path, image: Placed) -> npt.NDArray[np.float64]:
    """Of a DICOM SEG, frame by frame: its own positions count, the image does not."""
    import pydicom

    dataset = pydicom.dcmread(path)
    shared = dataset.SharedFunctionalGroupsSequence[0]
    down_mm, across_mm = (float(value) for value in shared.PixelMeasuresSequence[0].PixelSpacing)
    orientation = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float)
    frames = dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns)
    found = [np.zeros((0, 3))]
    for frame, about in zip(frames, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        row, column = np.nonzero(frame)
        corner = np.array(about.PlanePositionSequence[0].ImagePositionPatient, float)
        found.append(corner + np.outer(column * across_mm, orientation[:3]) + np.outer(row * down_mm, orientation[3:]))
    return np.concatenate(found)


def _places_in_contours(path: Path, image: Placed) -> npt.NDArray[np.float64]:
    """Voxels of the image whose centres lie inside the contours of their slice, by the even-odd rule."""
    import pydicom
    from matplotlib.path import Path as Outline

    dataset = pydicom.dcmread(path)
    inside = np.zeros(image.values_zyx.shape, bool)
    back = np.linalg.inv(image.affine_xyz)
    for contour in dataset.ROIContourSequence[0].get("ContourSequence", ()):
        corners = np.array(contour.ContourData, float).reshape(-1, 3) @ back[:3, :3].T + back[:3, 3]
        level = round(float(corners[0, 2]))
        assert np.abs(corners[:, 2] - level).max() < 0.02, "a contour between slices"
        x, y = np.floor(corners[:, :2].min(0)).clip(0).astype(int)
        part = inside[level, y : int(corners[:, 1].max()) + 2, x : int(corners[:, 0].max()) + 2]
        rows, columns = np.indices(part.shape)
        # A channel to a hole is walked twice and changes nothing, but for a centre exactly on it: look a little beside.
        columns, rows = columns + 0.013, rows + 0.007
        part ^= Outline(corners[:, :2]).contains_points(np.column_stack([columns.ravel() + x, rows.ravel() + y])).reshape(part.shape)
    return image.places(inside)


IMAGES: dict[str, ImageFormat] = {
    "NIfTI-1": ImageFormat(".nii.gz", "direction", _write_nifti),
    "NIfTI-1, qform": ImageFormat(".nii", "direction", partial(_write_nifti, sform=0)),
    "NIfTI-1, sform": ImageFormat(".nii.gz", "leaning", partial(_write_nifti, qform=0, sform=2)),
    "NIfTI-2": ImageFormat(".nii", "direction", partial(_write_nifti, kind=nibabel.Nifti2Image)),
    "NRRD": ImageFormat(".nrrd", "leaning", _write_itk),
    "NRRD, detached": ImageFormat(".nhdr", "leaning", _write_itk),
    "MHA": ImageFormat(".mha", "leaning", _write_itk),
    "MHD": ImageFormat(".mhd", "leaning", _write_itk),
    "DICOM": ImageFormat("", "leaning", _write_dicom),
    "TIFF, ImageJ": ImageFormat(".tif", "spacing", _write_imagej, least_slices=2),
    "TIFF, OME": ImageFormat(".ome.tif", "spacing", _write_ome_tiff, least_slices=2),
    "OME-Zarr 0.4": ImageFormat(".zarr", "origin", partial(_write_zarr, version="0.4")),
    "OME-Zarr 0.5": ImageFormat(".ome.zarr", "origin", partial(_write_zarr, version="0.5")),
}

LABEL_MAPS: dict[str, LabelFormat] = {
    ".nii.gz": LabelFormat("leaning", read_nifti),
    ".nii": LabelFormat("leaning", read_nifti),
    ".nrrd": LabelFormat("leaning", read_itk),
    ".mha": LabelFormat("leaning", read_itk),
    ".mhd": LabelFormat("leaning", read_itk),
    ".tif": LabelFormat("spacing", _read_tiff),
    ".seg.dcm": LabelFormat("leaning", places=_places_of_segments, of="DICOM"),
    ".rtstruct.dcm": LabelFormat("leaning", places=_places_in_contours, of="DICOM"),
}

PAIRS = tuple((image, label) for image in IMAGES for label, about in LABEL_MAPS.items() if about.of in (None, image))
"""Formats that images come in and their label maps can go out in."""


def common(one: Holds, other: Holds) -> Holds:
    """What both formats hold."""
    return LEVELS[min(LEVELS.index(one), LEVELS.index(other))]
