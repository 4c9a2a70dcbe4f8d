"""NIfTI's two transforms ↔ Grid, chosen and computed as ITK 5.4 does it (itkNiftiImageIO.cxx, nifti1_io.c).

A header can hold two transforms from voxels to world: the qform (a rotation as quaternion, with the spacing from pixdim)
and the sform (any affine). NIfTI's world axes are right/anterior/superior, ITK's are left/posterior/superior.
"""

import logging
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from autounet.errors import ImageError
from autounet.geometry import slant_degrees
from autounet.images.stored import SLANT_DEGREES, check_right_angles

log = logging.getLogger(__name__)

Matrix = npt.NDArray[np.float64]

SCANNER = 1
"""NIFTI_XFORM_SCANNER_ANAT: coordinates of the scanner."""

MM_PER_UNIT = {1: 1000.0, 2: 1.0, 3: 0.001}
"""xyzt_units (lowest three bits) → mm: metre, millimetre, micrometre; anything else counts as millimetre."""

RAS_TO_LPS = np.array([-1.0, -1.0, 1.0])


def unit_mm(header: Any) -> float:
    """Millimetres per unit of the header's lengths."""
    return MM_PER_UNIT.get(int(header["xyzt_units"]) & 7, 1.0)


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a header puts its voxels."""

    origin_mm_xyz: tuple[float, float, float]
    direction: tuple[float, ...]
    """Row by row, in ITK's axes."""
    spacing_mm_xyz: tuple[float, ...] | None = None
    """Where slices lean, that of the transform: pixdim may hold the distance of slices instead of that of their voxels."""


def placement_of(header: Any, path: Path) -> Placement:
    """Origin and direction; pixdim, which holds the spacing, must have been checked.

    ITK's choice: no transform at all means identity; the sform where it is orthonormal up to scale and is the only one, is
    the scanner's, or agrees with the qform; else the qform. ITK refuses a lone sform with the slightest shear; here
    it is taken as it is. The file's own header is carried over when labels are written.

    Raises:
        ImageError: The only transform is singular, not finite, or its axes are not at right angles.
    """
    qform = _qform(header) if int(header["qform_code"]) > 0 else None
    sform = _sform(header) if int(header["sform_code"]) > 0 else None
    if qform is None and sform is None:
        return Placement((0.0, 0.0, 0.0), tuple(np.eye(3).ravel().tolist()))
    chosen = sform if _takes_sform(header, qform, sform) else qform
    if chosen is None:
        raise ImageError(
            f"{path}: the header's sform is singular or not finite, and there is no qform",
            found=f"rows {np.array2string(sform, precision=4) if sform is not None else ''}".replace("\n", ""),
            remedy="set sform_code to 0, or write the affine anew, e.g. with nibabel",
        )
    lengths = np.linalg.norm(chosen[:, :3], axis=0)
    axes, spacing = chosen[:, :3] / lengths, None
    check_right_angles(path, axes)
    if slant_degrees(axes) > SLANT_DEGREES:
        spacing = tuple((lengths * unit_mm(header)).tolist())
    direction = RAS_TO_LPS[:, None] * axes
    x, y, z = (RAS_TO_LPS * chosen[:, 3] * unit_mm(header)).tolist()
    # + 0.0 turns -0.0 into 0.0.
    return Placement((x + 0.0, y + 0.0, z + 0.0), tuple((direction.ravel() + 0.0).tolist()), spacing)


def warn_of_disagreement(header: Any, shape_xyz: tuple[int, int, int], path: Path) -> None:
    """Says when a header contradicts itself, and what is used.

    The two transforms may place a corner of the image more than half a voxel apart. A lone sform may have another voxel size than pixdim,
    of which ITK takes pixdim and nibabel the sform; it is given here where they differ by more than a hundredth.

    The header's transforms must have been found usable.
    """
    if int(header["qform_code"]) <= 0 < int(header["sform_code"]):
        lengths = np.linalg.norm(_sform(header)[:, :3], axis=0)
        named = header["pixdim"][1:4].astype(np.float64)
        if int(header["dim"][0]) >= 3 and np.abs(lengths / named - 1).max() > 0.01:
            shown = [", ".join(f"{value:.4g}" for value in values * unit_mm(header)) for values in (named, lengths)]
            log.warning("%s: pixdim says voxels of %s mm (x, y, z), the sform of %s", path, *shown)
    if int(header["qform_code"]) <= 0 or int(header["sform_code"]) <= 0:
        return
    qform, sform = _qform(header), _sform(header)
    if not np.isfinite(sform).all():
        return
    corners = np.array([(*corner, 1) for corner in product(*((0, size - 1) for size in shape_xyz))])
    apart = float(np.linalg.norm(corners @ (qform - sform).T, axis=1).max())
    if apart > 0.5 * float(np.linalg.norm(qform[:, :3], axis=0).min()):
        used = "sform" if _takes_sform(header, qform, sform) else "qform"
        log.warning("%s: qform and sform place voxels up to %.3g mm apart; the %s is used", path, apart * unit_mm(header), used)


def _takes_sform(header: Any, qform: Matrix | None, sform: Matrix | None) -> bool:
    if sform is None or not np.isfinite(sform).all() or not abs(np.linalg.det(sform[:, :3])) > 0:
        return False
    return qform is None or (_orthonormal(sform) and (int(header["sform_code"]) == SCANNER or _agree(sform, qform)))


def _sform(header: Any) -> Matrix:
    return np.stack([header["srow_x"], header["srow_y"], header["srow_z"]]).astype(np.float64)


def _qform(header: Any) -> Matrix:
    """3x4 matrix of the qform. As in nifti1_io.c a number that is not finite counts as 0, a spacing that is not positive as 1."""
    names = ("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z")
    b, c, d, *offset = np.nan_to_num(np.array([float(header[name]) for name in names]), posinf=0.0, neginf=0.0)
    rest = 1.0 - (b * b + c * c + d * d)
    if rest < 1e-7:
        b, c, d = np.array([b, c, d]) / np.sqrt(b * b + c * c + d * d)
        a = 0.0
    else:
        a = np.sqrt(rest)
    rotation = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    spacing = np.array([float(value) if value > 0 and np.isfinite(value) else 1.0 for value in header["pixdim"][1:4]])
    if header["pixdim"][0] < 0:
        spacing[2] = -spacing[2]
    return np.column_stack([rotation * spacing, offset])


def _orthonormal(matrix: Matrix) -> bool:
    axes = matrix[:, :3] / np.linalg.norm(matrix[:, :3], axis=0)
    return bool(np.abs(axes @ axes.T - np.eye(3)).max() <= 1e-4)


def _agree(sform: Matrix, qform: Matrix) -> bool:
    """Whether the two are the same up to rounding.

    ITK compares singular vectors, and so sometimes, depending on rounding, takes two forms for equal that mirror each other.
    """
    lengths_s, lengths_q = np.linalg.norm(sform[:, :3], axis=0), np.linalg.norm(qform[:, :3], axis=0)
    turned = np.abs(sform[:, :3] / lengths_s - qform[:, :3] / lengths_q).max()
    return bool(max(turned, np.abs(lengths_s - lengths_q).max(), np.abs(sform[:, 3] - qform[:, 3]).max()) <= 1e-4)
