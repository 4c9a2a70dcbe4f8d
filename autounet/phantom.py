"""The built-in demonstration data: generated 3D volumes of a body with organ-like shapes, written as a normal dataset folder.

Shapes are defined in millimetres, so that a case's spacing changes its size in voxels. What makes it a task rather than a
threshold: structures that carry no label but have the organs' brightness, a bias field, texture, noise and a gain per case.
"""

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from autounet.artefact import partial_prefix, remove_leftovers
from autounet.errors import DatasetError
from autounet.geometry import Grid, Triple, TripleMm

FOLDER = "Dataset001_Phantom"
CLASSES = ("large_organ", "small_organ", "vessel", "lesion")
"""Names of the label values 1, 2, 3, 4."""

VERSION = 1
"""Changes when the same seed gives other volumes."""

BODY_BRIGHTNESS = 400.0
BRIGHTNESS = {"spine": 700.0, "blobs": 690.0, "large_organ": 570.0, "small_organ": 690.0, "vessel": 780.0, "lesion": 300.0}
"""In the order in which they are painted; spine and blobs carry no label."""

ENDLESS = 1e4
"""Radius (mm) of a shape that runs through the whole volume."""

Array = npt.NDArray[np.float32]
Vector = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Volume:
    """One generated case."""

    image_zyx: npt.NDArray[np.int16]
    """Intensity; exactly 0 in the air around the body and above 0 within."""
    labels_zyx: npt.NDArray[np.uint8]
    """0 background, 1.. as in ``CLASSES``."""
    grid: Grid


def write_phantom(folder: Path, *, train: int = 12, test: int = 4, seed: int = 0) -> Path:
    """Writes the dataset ``Dataset001_Phantom`` below ``folder``; does nothing when it is there already.

    Args:
        folder: Where datasets lie; made if need be.
        train: Number of volumes in imagesTr and labelsTr.
        test: Number of volumes in imagesTs and labelsTs.
        seed: Same seed, same volumes; case k does not depend on how many cases there are.

    Returns:
        The dataset's folder, with dataset.json in nnU-Net's dialect.

    Raises:
        DatasetError: The folder exists with other content, or cannot be written.
    """
    target = folder / FOLDER
    content = _description(train, test, seed)
    if target.exists():
        return _checked(target, content, train, test)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder)
        with tempfile.TemporaryDirectory(prefix=partial_prefix(), dir=folder) as temporary:
            draft = Path(temporary) / FOLDER
            for number in range(train + test):
                _write_case(draft, "Tr" if number < train else "Ts", case_name(number), make_volume(seed, number))
            (draft / "dataset.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
            draft.rename(target)
    except OSError as error:
        if target.exists():  # another process finished the same folder first
            return _checked(target, content, train, test)
        raise DatasetError(
            f"{target}: cannot be written", found=error.strerror or error, remedy="check the folder's permissions and free space"
        ) from error
    return target


def case_name(number: int) -> str:
    """Identifier of the case with this number, counted from 0."""
    return f"phantom_{number + 1:03d}"


def make_volume(seed: int, number: int) -> Volume:
    """Generates one case: about 17..27 x 46..64 x 46..64 voxels of 2.8..4 x 1.35..1.75 x 1.35..1.75 mm."""
    rng = np.random.default_rng([seed, number])
    thickness, width = round(rng.uniform(2.8, 4.0), 2), round(rng.uniform(1.35, 1.75), 2)
    spacing: TripleMm = (thickness, width, width)
    field_mm = (rng.uniform(68, 76), rng.uniform(80, 86), rng.uniform(80, 86))
    limits = ((17, 27), (46, 64), (46, 64))
    z, y, x = (int(np.clip(round(f / s), *limit)) for f, s, limit in zip(field_mm, spacing, limits, strict=True))
    shape: Triple = (z, y, x)
    origin = (round(rng.uniform(-60, 0), 1), round(rng.uniform(-60, 0), 1), round(rng.uniform(-200, 200), 1))
    parts = _anatomy(rng, shape, spacing)
    labels = np.zeros(shape, np.uint8)
    for value, name in enumerate(CLASSES, start=1):
        labels[parts[name] < 0] = value
    image = _image(rng, parts, shape, spacing)
    return Volume(image, labels, Grid(shape_zyx=shape, spacing_mm_zyx=spacing, origin_mm_xyz=origin))


def _anatomy(rng: np.random.Generator, shape: Triple, spacing: TripleMm) -> dict[str, Array]:
    """Signed distance to every structure (mm, roughly; negative inside) on the voxel grid; later ones lie over earlier ones."""
    axes = [(np.arange(n, dtype=np.float32) - (n - 1) / 2) * s for n, s in zip(shape, spacing, strict=True)]
    straight = np.stack(np.meshgrid(*axes, indexing="ij"))
    body = _ellipsoid(straight, np.zeros(3), np.array([ENDLESS, 35, 37])) + 1.2 * _waves(rng, shape, spacing, 20)
    at = _posed(rng, straight, shape, spacing)

    def vary(*values: float, by: float) -> Vector:
        return np.array(values) + rng.uniform(-by, by, 3)

    def scale(*values: float) -> Vector:
        return np.array(values) * rng.uniform(0.88, 1.12, 3)

    main = _ellipsoid(at, vary(2, -4, -13, by=1.5), scale(21, 18, 14))
    large = np.minimum(main, _ellipsoid(at, vary(8, -10, -2, by=1.5), scale(11, 10, 13)))
    small = _ellipsoid(at, vary(-3, 8, 20, by=1.5), scale(14, 9, 10))
    vessel = _tube(rng, at)
    large, small, vessel = (np.maximum(organ, body + 2) for organ in (large, small, vessel))
    organs = np.minimum.reduce([large, small, vessel])
    # Structures without a label are as bright as the organs, but stay 2 mm away from them.
    spine = np.maximum(_ellipsoid(at, np.array([0, 24, -1]), np.array([ENDLESS, 8, 8])), 2 - organs)
    blobs = np.full(shape, np.inf, np.float32)
    for _ in range(14):
        blobs = np.minimum(blobs, _ellipsoid(at, rng.uniform((-36, -32, -32), (36, 32, 32)), rng.uniform(3, 6.5, 3)))
    large = np.maximum(large, 1 - np.minimum(small, vessel))
    lesion = _ellipsoid(at, np.array([2, -4, -14]) + rng.uniform((-7, -6, -4), (7, 6, 2)), rng.uniform(6, 8.5, 3))
    return {
        "spine": spine,
        "blobs": np.maximum.reduce([blobs, 2 - organs, body + 4]),
        "large_organ": large,
        "small_organ": np.maximum(small, 1 - vessel),
        "vessel": vessel,
        "lesion": np.maximum(lesion, np.maximum(main, large) + 3.5),  # a voxel deep inside the organ
        "body": body,
    }


def _posed(rng: np.random.Generator, at_mm: Array, shape: Triple, spacing: TripleMm) -> Array:
    """Coordinates after a random shift, turn about z, size and smooth deformation: all organs of a case move together."""
    shift = rng.uniform(-1, 1, 3) * (3.0, 2.5, 2.5)
    turn = np.deg2rad(rng.uniform(-8, 8))
    rotation = np.array([[1, 0, 0], [0, np.cos(turn), -np.sin(turn)], [0, np.sin(turn), np.cos(turn)]]) / rng.uniform(0.92, 1.06)
    warp = np.stack([2.0 * _waves(rng, shape, spacing, 14) for _ in range(3)])
    posed = np.einsum("ij,jzyx->izyx", rotation, at_mm - shift.reshape(3, 1, 1, 1)) + warp
    return np.asarray(posed, np.float32)


def _ellipsoid(at_mm: Array, centre_mm: Vector, radii_mm: Vector) -> Array:
    """Signed distance to an ellipsoid, first order (exact for spheres)."""
    radii = np.array(radii_mm, np.float32).reshape(3, 1, 1, 1)
    scaled = (at_mm - np.array(centre_mm, np.float32).reshape(3, 1, 1, 1)) / radii
    level = np.sqrt((scaled**2).sum(0))
    slope = np.sqrt(((scaled / radii) ** 2).sum(0))
    distance: Array = level * (level - 1) / np.maximum(slope, np.float32(1e-6))
    return distance


def _tube(rng: np.random.Generator, at_mm: Array) -> Array:
    """Signed distance to a tube that winds upwards between the organs."""
    phase, bend, radius = rng.uniform(-0.6, 0.6), rng.uniform(3, 6), rng.uniform(5, 6)
    distance = np.full(at_mm.shape[1:], np.inf, np.float32)
    for height in np.linspace(-45, 45, 46):
        centre = (height, 9 + 2 * np.sin(height / 9), 1 + bend * np.sin(height / 14 + phase))
        offset = at_mm - np.array(centre, np.float32).reshape(3, 1, 1, 1)
        distance = np.minimum(distance, (offset**2).sum(0))
    tube: Array = np.sqrt(distance) - np.float32(radius)
    return np.asarray(np.maximum(tube, np.abs(at_mm[0]) - 27))


def _image(rng: np.random.Generator, parts: Mapping[str, Array], shape: Triple, spacing: TripleMm) -> npt.NDArray[np.int16]:
    """Intensities: blended edges, texture, bias field, gain, noise; exactly 0 in the air."""
    image = BODY_BRIGHTNESS + 30 * _waves(rng, shape, spacing, 6)
    for name, brightness in BRIGHTNESS.items():
        share = np.clip(0.5 - parts[name] / 1.5, 0, 1)
        image = image * (1 - share) + brightness * rng.uniform(0.95, 1.05) * share
    image = image + 25 * _waves(rng, shape, spacing, 2.5)
    image = image * np.exp(0.15 * _waves(rng, shape, spacing, 35)) * rng.uniform(0.75, 1.3)
    image = image + rng.normal(0, 25, shape)
    inside = parts["body"] < 0
    return np.where(inside, np.clip(np.rint(image), 1, 32767), 0).astype(np.int16)


def _waves(rng: np.random.Generator, shape: Triple, spacing: TripleMm, length_mm: float) -> Array:
    """Smooth random field of mean 0 and variance 1 everywhere: Gaussian bumps of random height on a lattice ``length_mm`` apart."""
    weights = []
    for n, s in zip(shape, spacing, strict=True):
        reach = (n - 1) * s / 2
        knots = np.arange(-reach - 2 * length_mm, reach + 3 * length_mm, length_mm)
        at = (np.arange(n) - (n - 1) / 2) * s
        row = np.exp(-(((at[:, None] - knots) / length_mm) ** 2))
        # The field's variance is the product of the three sums of squares, so unit rows make it 1.
        weights.append(row / np.sqrt((row**2).sum(1, keepdims=True)))
    heights = rng.normal(size=[w.shape[1] for w in weights])
    field = np.einsum("zk,kyx->zyx", weights[0], np.einsum("yl,klx->kyx", weights[1], heights @ weights[2].T))
    return np.asarray(field, np.float32)


def _write_case(dataset: Path, part: str, case: str, volume: Volume) -> None:
    for folder, name, array in ((f"images{part}", f"{case}_0000", volume.image_zyx), (f"labels{part}", case, volume.labels_zyx)):
        (dataset / folder).mkdir(parents=True, exist_ok=True)
        _write_nifti(dataset / folder / f"{name}.nii.gz", array, volume.grid)


def _write_nifti(path: Path, array_zyx: npt.NDArray[Any], grid: Grid) -> None:
    import nibabel

    # NIfTI's axes point right, anterior, superior; the grid's point left, posterior, superior.
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ grid.affine_xyz()
    image = nibabel.Nifti1Image(array_zyx.transpose(2, 1, 0), affine)  # type: ignore[no-untyped-call]
    nibabel.save(image, path)


def _description(train: int, test: int, seed: int) -> dict[str, Any]:
    return {
        "name": "Phantom",
        "description": "Generated volumes of organ-like shapes; made for demonstrations and tests",
        "channel_names": {"0": "MRI"},
        "labels": {"background": 0, **{name: value for value, name in enumerate(CLASSES, start=1)}},
        "numTraining": train,
        "numTest": test,
        "file_ending": ".nii.gz",
        "phantom": {"version": VERSION, "seed": seed},
    }


def _checked(target: Path, content: Mapping[str, Any], train: int, test: int) -> Path:
    """The folder that is already there, if it is what would be written."""
    remedy = "delete the folder or choose another one"
    try:
        found = json.loads((target / "dataset.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"{target}: is there, but is no generated dataset", found=error, remedy=remedy) from None
    if found != content:
        raise DatasetError(f"{target}: is there with other content", expected="the generated dataset asked for", remedy=remedy)
    names = [("Tr", case_name(number)) for number in range(train)] + [("Ts", case_name(train + number)) for number in range(test)]
    files = [f"{folder}{part}/{name}{tail}.nii.gz" for part, name in names for folder, tail in (("images", "_0000"), ("labels", ""))]
    missing = [file for file in files if not (target / file).is_file()]
    if missing:
        raise DatasetError(f"{target}: files are missing", found=f"no {', '.join(missing[:4])}", remedy=remedy)
    return target
