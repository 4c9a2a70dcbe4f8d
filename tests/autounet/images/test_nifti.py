"""NIfTI files: arrays and grids equal SimpleITK's, labels come back on the source's exact geometry, damage is noticed."""

import gzip
import struct
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header
from scipy.spatial.transform import Rotation

from autounet.errors import ImageError
from autounet.geometry import Grid
from autounet.images import read_image, read_labels, write_labels

SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)

REAL = (
    "volumes/spmMotor.nii.gz",
    "volumes/CT_pitch.nii.gz",
    "volumes/pcasl.nii.gz",
    "brain_label_maps/training_seg_01.nii.gz",
    "brain_label_maps/training_seg_05.nii.gz",
    "Task04_Hippocampus/imagesTr/hippocampus_001.nii.gz",
    "Dataset102_Cardiac/imagesTr/patient001_frame01_0000.nii.gz",
)


def save(path: Path, voxels_xyz: np.ndarray, kind: type = Nifti1Header, **fields: Any) -> Path:
    """A NIfTI file from an array with NIfTI's axes; ``fields`` go into the header as they are, ``pixdim`` as {index: value}."""
    header = kind()
    codes = {"u1": 2, "i2": 4, "i4": 8, "f4": 16, "c8": 32, "f8": 64, "i1": 256, "u2": 512, "u4": 768, "i8": 1024, "u8": 1280}
    header["datatype"] = codes[voxels_xyz.dtype.str[1:]]
    header["bitpix"] = voxels_xyz.dtype.itemsize * 8
    header["dim"] = [voxels_xyz.ndim, *voxels_xyz.shape, *[1] * (7 - voxels_xyz.ndim)]
    header["vox_offset"] = int(header["sizeof_hdr"]) + 4
    for name, value in fields.items():
        if name == "pixdim":
            for index, spacing in value.items():
                header["pixdim"][index] = spacing
        elif name == "qform":
            header.set_qform(value, int(fields.get("qform_code", 1)))
        elif name == "sform":
            header.set_sform(value, int(fields.get("sform_code", 1)))
        else:
            header[name] = value
    order = ">" if voxels_xyz.dtype.byteorder == ">" else "<"
    content = header.as_byteswapped(order).binaryblock + bytes(4) + voxels_xyz.tobytes(order="F")
    path.write_bytes(gzip.compress(content) if path.name.endswith(".gz") else content)
    return path


def counting(*shape: int, dtype: str = "<i2") -> np.ndarray:
    """0, 1, 2, … in memory order (x fastest)."""
    return np.arange(np.prod(shape)).reshape(shape, order="F").astype(dtype)


def assert_equals_simpleitk(path: Path, direction_tolerance: float = 1e-5) -> None:
    array, grid = read_image(path)
    image = SimpleITK.ReadImage(str(path))
    expected = SimpleITK.GetArrayFromImage(image).astype(np.float32)
    axes = image.GetDimension()
    spatial = min(axes, 3)
    np.testing.assert_allclose(array.reshape(expected.shape), expected, rtol=1e-6)
    assert array.dtype == np.float32
    assert array.flags.c_contiguous
    assert array.flags.writeable
    assert grid.ndim == spatial
    assert grid.shape_zyx == array.shape[1:]
    np.testing.assert_allclose(grid.spacing_mm_zyx[::-1][:spatial], image.GetSpacing()[:spatial], rtol=1e-5)
    np.testing.assert_allclose(grid.origin_mm_xyz[:spatial], image.GetOrigin()[:spatial], rtol=1e-5, atol=1e-4)
    direction = np.array(image.GetDirection()).reshape(axes, axes)[:spatial, :spatial]
    np.testing.assert_allclose(np.array(grid.direction).reshape(3, 3)[:spatial, :spatial], direction, atol=direction_tolerance)


@pytest.mark.parametrize("name", REAL)
def test_real_files_equal_simpleitk(shared: Path, name: str) -> None:
    assert_equals_simpleitk(shared / "data" / name)


@pytest.mark.parametrize("dataset", ["Task04_Hippocampus", "Dataset102_Cardiac"])
def test_real_images_and_labels_share_a_grid(shared: Path, dataset: str) -> None:
    for path in sorted((shared / "data" / dataset / "labelsTr").glob("*.nii.gz"))[:12]:
        labels, grid = read_labels(path)
        image = next((shared / "data" / dataset / "imagesTr").glob(path.name.removesuffix(".nii.gz") + "*"))
        assert grid.differences(read_image(image)[1]) == []
        np.testing.assert_array_equal(labels, SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path))))


angles = st.integers(-31, 31).map(lambda tenths: tenths / 10)
affines = st.builds(
    lambda turn, spacing, flip, origin: (Rotation.from_euler("xyz", turn).as_matrix() * np.sign(flip) * spacing, origin),
    st.tuples(angles, angles, angles),
    st.tuples(*[st.floats(0.1, 12)] * 3),
    st.tuples(*[st.sampled_from([-1, 1])] * 3),
    st.tuples(*[st.floats(-300, 300)] * 3),
)


def to_4x4(matrix_and_origin: tuple[np.ndarray, tuple[float, ...]]) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = matrix_and_origin
    return affine


@settings(max_examples=60, deadline=None)
@given(form=affines, qform_code=st.integers(0, 4), sform_code=st.integers(0, 4), units=st.sampled_from([0, 1, 2, 3, 10]))
def test_rotated_and_reflected_affines_equal_simpleitk(
    tmp_path_factory: pytest.TempPathFactory, form: Any, qform_code: int, sform_code: int, units: int
) -> None:
    affine = to_4x4(form)
    path = tmp_path_factory.mktemp("nifti") / "image.nii"
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    save(
        path,
        counting(2, 3, 4),
        qform=affine,
        sform=affine,
        qform_code=qform_code,
        sform_code=sform_code,
        pixdim={1: spacing[0], 2: spacing[1], 3: spacing[2]},
        xyzt_units=units,
    )
    # Where both forms are there and mean the same, ITK's choice depends on rounding, and they differ by the quaternion's.
    assert_equals_simpleitk(path, 1e-5 if min(qform_code, sform_code - 1) < 1 else 1e-4)


@pytest.mark.parametrize("seed", range(24))
def test_of_two_different_transforms_the_same_is_chosen_as_by_simpleitk(tmp_path: Path, seed: int) -> None:
    # Numbers in general position: for degenerate ones (forms that only mirror each other, equal spacings with nearly equal
    # axes) ITK compares singular vectors that its rounding has chosen.
    rng = np.random.default_rng(seed)
    qform, sform = (
        to_4x4(
            (Rotation.random(random_state=rng).as_matrix() * rng.choice([-1, 1], 3) * rng.uniform(0.3, 5, 3), tuple(rng.normal(0, 100, 3)))
        )
        for _ in range(2)
    )
    codes = {"qform_code": rng.integers(1, 5), "sform_code": rng.integers(1, 5)}
    assert_equals_simpleitk(save(tmp_path / "image.nii", counting(2, 3, 4), sform=sform, qform=qform, **codes))


def test_of_two_transforms_that_mirror_each_other_the_qform_is_taken(tmp_path: Path) -> None:
    upright = to_4x4((np.diag([2.0, 3.0, 4.0]), (10, 20, 30)))
    mirrored = upright @ np.diag([-1, 1, 1, 1])
    _, grid = read_image(save(tmp_path / "a.nii", counting(2, 3, 4), qform=upright, sform=mirrored, qform_code=1, sform_code=2))
    # NIfTI's x and y point right and anterior, ITK's left and posterior.
    assert np.diag(np.array(grid.direction).reshape(3, 3)).tolist() == [-1, -1, 1]


def test_a_sheared_sform_gives_way_to_the_qform(tmp_path: Path) -> None:
    upright = to_4x4((np.diag([2.0, 3.0, 4.0]), (10, 20, 30)))
    sheared = upright.copy()
    sheared[0, 1] = 1.5
    assert_equals_simpleitk(save(tmp_path / "a.nii", counting(2, 3, 4), qform=upright, sform=sheared, qform_code=1, sform_code=1))
    with pytest.raises(ImageError, match=r"b\.nii: the axes are not at right angles: found 63\.43° between x and y, expected 90°"):
        read_image(save(tmp_path / "b.nii", counting(2, 3, 4), sform=sheared, sform_code=2))
    # Slightly slanted and alone, ITK refuses it, too; here voxels are where it says.
    sheared[0, 1] = 0.03
    _, grid = read_image(save(tmp_path / "c.nii", counting(2, 3, 4), sform=sheared, sform_code=2, pixdim={1: 2, 2: 3, 3: 4}))
    np.testing.assert_allclose(grid.affine_xyz(), np.diag([-1, -1, 1, 1]) @ sheared, atol=1e-3)


@pytest.mark.parametrize("degrees", [5, 30, -44])
def test_slices_that_lean_are_taken_as_they_lie(tmp_path: Path, degrees: float) -> None:
    """A CT with a tilted gantry, as dcm2niix leaves it: each slice is shifted against the one before."""
    affine = to_4x4((np.diag([0.5, 0.7, 3.0]), (10, 20, 30)))
    affine[1, 2] = 3 * np.tan(np.radians(degrees))
    path = save(tmp_path / "a.nii", counting(5, 4, 3), sform=affine, sform_code=1, pixdim={1: 0.5, 2: 0.7, 3: 3})
    labels, grid = read_labels(path)
    np.testing.assert_allclose(grid.affine_xyz(), np.diag([-1, -1, 1, 1]) @ affine, atol=1e-5)
    for name in ("b.nii.gz", "c.nrrd", "d.mha"):
        write_labels(tmp_path / name, labels, grid)
        found, own = read_labels(tmp_path / name)
        np.testing.assert_array_equal(found, labels)
        assert own.differences(grid) == []
    # The qform, which cannot lean, is left out: ITK would believe it.
    written = nibabel.load(tmp_path / "b.nii.gz")
    np.testing.assert_allclose(written.affine, affine, atol=1e-5)
    assert int(written.header["qform_code"]) == 0
    affine[1, 2] = 3 * np.tan(np.radians(46))
    with pytest.raises(ImageError, match="found z slanted by 46°, expected at most 45°"):
        read_image(save(tmp_path / "e.nii", counting(5, 4, 3), sform=affine, sform_code=1))


def test_nifti_2_has_the_grid_of_its_nifti_1_twin(tmp_path: Path) -> None:
    affine = to_4x4((Rotation.from_euler("xyz", [0.1, 0.2, 0.3]).as_matrix() * [0.7, 0.8, 2.9], (1.1, -2.2, 3.3)))
    for code in (1, 2):
        forms = {"sform": affine, "qform": affine, "qform_code": 1, "sform_code": code}
        first = read_image(save(tmp_path / "a.nii", counting(2, 3, 4), Nifti1Header, **forms))[1]
        second = read_image(save(tmp_path / "b.nii", counting(2, 3, 4), Nifti2Header, **forms))[1]
        np.testing.assert_allclose(second.affine_xyz(), first.affine_xyz(), atol=1e-5)


def test_no_transform_means_identity(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", counting(2, 3, 4), pixdim={1: 2, 2: 3, 3: 5})
    assert read_image(path)[1] == Grid(shape_zyx=(4, 3, 2), spacing_mm_zyx=(5.0, 3.0, 2.0))
    assert_equals_simpleitk(path)


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [Nifti1Header, Nifti2Header])
def test_every_type_of_number_in_both_byte_orders(tmp_path: Path, dtype: str, order: str, kind: type) -> None:
    voxels = counting(5, 4, 3).astype(order + dtype)
    path = save(tmp_path / "a.nii.gz", voxels, kind)
    array, _ = read_image(path)
    # x runs fastest in the file and is the last axis here.
    np.testing.assert_array_equal(array, np.arange(60, dtype=np.float32).reshape(1, 3, 4, 5))
    labels, _ = read_labels(path)
    np.testing.assert_array_equal(labels, np.arange(60).reshape(3, 4, 5))
    assert labels.dtype == (np.uint8 if dtype[0] == "f" else np.dtype(dtype))
    if kind is Nifti1Header:  # SimpleITK cannot read NIfTI-2
        assert_equals_simpleitk(path)


def test_scaled_integers(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", counting(3, 2, 2), scl_slope=0.1, scl_inter=-5)
    # voxel 11: 11 * 0.1 - 5 = -3.9
    assert read_image(path)[0].max() == pytest.approx(-3.9)
    assert_equals_simpleitk(path)
    unscaled = save(tmp_path / "b.nii", counting(3, 2, 2), scl_slope=0, scl_inter=7)
    assert read_image(unscaled)[0].max() == 11
    broken = save(tmp_path / "c.nii", counting(3, 2, 2), scl_slope=np.nan, scl_inter=np.nan)
    assert read_image(broken)[0].max() == 11


def test_scaled_labels_are_whole_again(tmp_path: Path) -> None:
    # 0, 127, 254 times float32(1/127) miss 0, 1, 2 by a rounding error.
    voxels = np.array([0, 127, 254], "u1").reshape(3, 1, 1)
    labels, _ = read_labels(save(tmp_path / "a.nii", voxels, scl_slope=1 / 127, scl_inter=0))
    assert labels.tolist() == [[[0, 1, 2]]]


def test_axes_beyond_the_third_are_channels(tmp_path: Path) -> None:
    array, grid = read_image(save(tmp_path / "a.nii", counting(5, 4, 3, 2)))
    np.testing.assert_array_equal(array, np.arange(120).reshape(2, 3, 4, 5))
    assert grid.shape_zyx == (3, 4, 5)
    vector, _ = read_image(save(tmp_path / "b.nii", counting(5, 4, 3, 1, 2), intent_code=1007))
    np.testing.assert_array_equal(vector, array)
    assert_equals_simpleitk(save(tmp_path / "c.nii", counting(5, 4, 3, 1)))
    with pytest.raises(ImageError, match=r"is not an image volume.*\(5, 4, 3, 2, 2\)"):
        read_image(save(tmp_path / "d.nii", counting(5, 4, 3, 2, 2)))
    with pytest.raises(ImageError, match="one channel: found 2 channels"):
        read_labels(tmp_path / "a.nii")


def test_a_2d_file_is_planar(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", counting(5, 4), pixdim={1: 2, 2: 3, 3: 0})
    array, grid = read_image(path)
    np.testing.assert_array_equal(array, np.arange(20).reshape(1, 1, 4, 5))
    assert (grid.ndim, grid.spacing_mm_zyx) == (2, (1.0, 3.0, 2.0))
    assert_equals_simpleitk(path)


@pytest.mark.parametrize("apart_mm", [0.9, 1.1])
def test_two_transforms_that_disagree_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture, apart_mm: float) -> None:
    """Half of the smallest spacing, 2 mm, is 1 mm; a turn is measured at the corners."""
    scanner = to_4x4((np.diag([2.0, 3.0, 4.0]), (10, 20, 30)))
    moved = scanner.copy()
    moved[2, 3] += apart_mm
    path = save(tmp_path / "a.nii", counting(2, 3, 4), qform=scanner, sform=moved, qform_code=1, sform_code=2)
    _, grid = read_image(path)
    assert grid.origin_mm_xyz == (-10, -20, 30)
    expected = f"{path}: qform and sform place voxels up to {apart_mm} mm apart; the qform is used"
    assert [record.getMessage() for record in caplog.records] == ([expected] if apart_mm > 1 else [])
    caplog.clear()
    # The scanner's sform is taken, as ITK does.
    read_image(save(path, counting(2, 3, 4), qform=scanner, sform=moved, qform_code=1, sform_code=1))
    assert [record.getMessage().endswith("the sform is used") for record in caplog.records] == ([True] if apart_mm > 1 else [])


def test_two_voxel_sizes_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    affine = to_4x4((np.diag([2.0, 3.0, 4.0]), (10, 20, 30)))
    path = save(tmp_path / "a.nii", counting(2, 3, 4), sform=affine, sform_code=2, pixdim={1: 1, 2: 3, 3: 4})
    _, grid = read_image(path)
    assert grid.spacing_mm_zyx == (4.0, 3.0, 1.0)
    assert_equals_simpleitk(path)
    told = [record.getMessage() for record in caplog.records]
    assert told == [f"{path}: pixdim says voxels of 1, 3, 4 mm (x, y, z), the sform of 2, 3, 4"] * 2
    caplog.clear()
    read_image(save(path, counting(2, 3, 4), sform=affine, sform_code=2, pixdim={1: 2, 2: 3, 3: 4}))
    assert caplog.records == []


def test_extensions_between_header_and_voxels_are_passed_over(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(counting(5, 4, 3), np.diag([1.0, 2.0, 3.0, 1.0]))
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"of the scanner" * 20))
    nibabel.save(image, tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(read_image(tmp_path / "a.nii.gz")[0], np.arange(60).reshape(1, 3, 4, 5))
    assert_equals_simpleitk(tmp_path / "a.nii.gz")


@pytest.mark.parametrize("dtype", ["i4", "u4", "i8", "u8", "f8"])
def test_an_offset_that_hides_all_differences_is_refused(tmp_path: Path, dtype: str) -> None:
    """From 2^31 on a step of 32-bit floating-point numbers is 256: of 0 to 59 nothing is left."""
    offset = 2**30 if dtype == "i4" else 2**31
    voxels = (offset + counting(5, 4, 3).astype("i8")).astype("<" + dtype)
    with pytest.raises(ImageError, match=rf"32-bit numbers cannot tell them apart: found {offset} to {offset + 59}.*Subtract {offset}"):
        read_image(save(tmp_path / "a.nii", voxels))
    # As a label map the numbers are what they are.
    if dtype[0] != "f":
        assert int(read_labels(tmp_path / "a.nii")[0].max()) == offset + 59


@pytest.mark.parametrize("dtype", ["i4", "i8", "f4", "f8"])
def test_large_numbers_that_differ_enough_are_read(tmp_path: Path, dtype: str) -> None:
    voxels = (counting(5, 4, 3).astype("i8") * 2**24).astype("<" + dtype)
    np.testing.assert_array_equal(read_image(save(tmp_path / "a.nii", voxels))[0].ravel(), np.arange(60) * 2.0**24)
    constant = np.full((5, 4, 3), 2**30 + 1).astype("<" + dtype)
    assert len(np.unique(read_image(save(tmp_path / "b.nii", constant))[0])) == 1


@pytest.mark.parametrize("name", ["a.hdr", "a.img"])
def test_a_pair_of_files_is_refused_with_a_remedy(tmp_path: Path, name: str) -> None:
    nibabel.save(nibabel.Nifti1Pair(counting(5, 4, 3), np.eye(4)), tmp_path / "a.img")
    with pytest.raises(ImageError, match=r"file type not supported.*Save header and voxels as one \.nii\.gz"):
        read_image(tmp_path / name)


def test_packing_is_seen_from_the_content(tmp_path: Path) -> None:
    plain = save(tmp_path / "a.nii", counting(5, 4, 3))
    (tmp_path / "b.nii.gz").write_bytes(plain.read_bytes())
    (tmp_path / "c.nii").write_bytes(gzip.compress(plain.read_bytes()))
    for name in ("b.nii.gz", "c.nii"):
        np.testing.assert_array_equal(read_image(tmp_path / name)[0], read_image(plain)[0])


@settings(max_examples=40, deadline=None)
@given(
    labels=arrays(st.sampled_from(["u1", "i2", "u2", "i8"]), st.tuples(*[st.integers(1, 6)] * 3), elements=st.integers(0, 120)),
    form=affines,
    ending=st.sampled_from([".nii", ".nii.gz"]),
)
def test_labels_on_a_grid_come_back(tmp_path_factory: pytest.TempPathFactory, labels: Any, form: Any, ending: str) -> None:
    matrix, origin = form
    spacing = np.linalg.norm(matrix, axis=0)
    grid = Grid(
        shape_zyx=labels.shape,
        spacing_mm_zyx=tuple(spacing[::-1].tolist()),
        origin_mm_xyz=origin,
        direction=tuple((matrix / spacing).ravel().tolist()),
    )
    path = tmp_path_factory.mktemp("nifti") / f"labels{ending}"
    write_labels(path, labels, grid)
    found, own = read_labels(path)
    np.testing.assert_array_equal(found, labels)
    np.testing.assert_allclose(own.affine_xyz(), grid.affine_xyz(), rtol=1e-5, atol=1e-4)
    assert_equals_simpleitk(path)


GEOMETRY = ("pixdim", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z")
GEOMETRY += ("srow_x", "srow_y", "srow_z", "xyzt_units", "dim_info")


@pytest.mark.parametrize("kind", [Nifti1Header, Nifti2Header])
@pytest.mark.parametrize("order", ["<", ">"])
def test_labels_like_a_source_have_its_geometry_bit_for_bit(tmp_path: Path, kind: type, order: str) -> None:
    affine = to_4x4((Rotation.from_euler("xyz", [0.1, 0.2, 0.3]).as_matrix() * [0.7, 0.8, 2.9], (1.1, -2.2, 3.3)))
    source = save(
        tmp_path / "image.nii",
        counting(5, 4, 3, 2, dtype=order + "i2"),
        kind,
        qform=affine,
        sform=affine @ np.diag([1.001, 1, 1, 1]),
        qform_code=1,
        sform_code=4,
        xyzt_units=10,
        dim_info=57,
        scl_slope=2,
        scl_inter=3,
        descrip=b"scanner",
        intent_code=5,
        cal_max=9,
    )
    _, grid = read_image(source)
    labels = (np.arange(60).reshape(3, 4, 5) % 3).astype(np.uint8)
    write_labels(tmp_path / "out.nii.gz", labels, grid, like=source)
    before, after = nibabel.load(source), nibabel.load(tmp_path / "out.nii.gz")
    for name in GEOMETRY:
        np.testing.assert_array_equal(after.header[name], before.header[name])
    np.testing.assert_array_equal(after.affine, before.affine)
    assert isinstance(after.header, kind)
    assert after.shape == (5, 4, 3)
    assert after.get_data_dtype() == np.uint8
    assert (int(after.header["intent_code"]), bytes(after.header["descrip"]), float(after.header["cal_max"])) == (0, bytes(80), 0.0)
    np.testing.assert_array_equal(np.asarray(after.dataobj).T, labels)
    assert read_labels(tmp_path / "out.nii.gz")[1] == grid


def test_labels_like_real_files_have_their_exact_affine(shared: Path, tmp_path: Path) -> None:
    for name in REAL:
        source = shared / "data" / name
        _, grid = read_image(source)
        labels = np.zeros(grid.shape_zyx, np.uint8)
        write_labels(tmp_path / "out.nii.gz", labels, grid, like=source)
        before, after = nibabel.load(source), nibabel.load(tmp_path / "out.nii.gz")
        np.testing.assert_array_equal(after.affine, before.affine)
        assert after.shape == before.shape[:3]
        # Of another format, the source gives the grid only.
        write_labels(tmp_path / "out.nrrd", labels, grid, like=source)
        assert read_labels(tmp_path / "out.nrrd")[1].differences(grid) == []


def test_a_source_of_another_shape_is_refused(tmp_path: Path) -> None:
    source = save(tmp_path / "image.nii", counting(5, 4, 3))
    grid = Grid(shape_zyx=(3, 4, 6), spacing_mm_zyx=(1.0, 1.0, 1.0))
    with pytest.raises(ImageError, match=r"another shape.*found \(3, 4, 5\), expected \(3, 4, 6\)"):
        write_labels(tmp_path / "out.nii", np.zeros((3, 4, 6), np.uint8), grid, like=source)
    assert not (tmp_path / "out.nii").exists()


def test_equal_labels_give_equal_bytes(tmp_path: Path) -> None:
    grid = Grid(shape_zyx=(3, 4, 5), spacing_mm_zyx=(1.0, 1.0, 1.0))
    for name in ("a.nii.gz", "b.nii.gz"):
        write_labels(tmp_path / name, np.ones((3, 4, 5), np.uint8), grid)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.nii.gz", "b.nii.gz"]


def test_an_axis_too_long_for_nifti_1_is_written_as_nifti_2(tmp_path: Path) -> None:
    grid = Grid(ndim=2, shape_zyx=(1, 2, 40000), spacing_mm_zyx=(1.0, 1.0, 1.0))
    write_labels(tmp_path / "a.nii.gz", np.ones((1, 2, 40000), np.uint8), grid)
    assert read_labels(tmp_path / "a.nii.gz")[1].shape_zyx == (1, 2, 40000)
    assert isinstance(nibabel.load(tmp_path / "a.nii.gz"), nibabel.Nifti2Image)


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii"])
def test_a_truncated_file_is_noticed_wherever_it_is_cut(tmp_path: Path, name: str) -> None:
    rng = np.random.default_rng(0)
    path = save(tmp_path / name, rng.integers(0, 1000, (9, 8, 7)).astype("<i2"))
    whole = path.read_bytes()
    for kept in (1, 3, 100, 347, 348, 352, len(whole) // 2, len(whole) - 9, len(whole) - 8, len(whole) - 4, len(whole) - 1):
        path.write_bytes(whole[:kept])
        with pytest.raises(ImageError, match=r"is damaged, incomplete or of another format.*Copy the file again"):
            read_image(path)


def test_a_flipped_bit_fails_the_check_sum(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii.gz", np.random.default_rng(0).integers(0, 1000, (9, 8, 7)).astype("<i2"))
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 1
    path.write_bytes(whole)
    with pytest.raises(ImageError, match="damaged"):
        read_image(path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"pixdim": {2: 0}}, "spacing is unusable: found 1, 0, 1 mm"),
        ({"pixdim": {1: -2}}, "spacing is unusable: found -2, 1, 1 mm"),
        ({"pixdim": {3: np.nan}}, "spacing is unusable: found 1, 1, nan mm"),
        ({"datatype": 128}, "found RGB colours"),
        ({"datatype": 32}, "found complex numbers"),
        ({"datatype": 77}, "datatype code 77"),
        ({"dim": [3, 5, 4, 0, 1, 1, 1, 1]}, r"axis sizes \(5, 4, 0\)"),
        ({"dim": [3, 5, 4, -3, 1, 1, 1, 1]}, r"axis sizes \(5, 4, -3\)"),
        ({"dim": [0, 5, 4, 3, 1, 1, 1, 1]}, "0 axes"),
        ({"dim": [4, 30000, 30000, 30000, 30000, 1, 1, 1]}, "claims 1,620,000,000,000,000,000 bytes"),
        ({"dim": [3, 5, 4, 4, 1, 1, 1, 1]}, "damaged"),
        ({"dim": [3, 500, 500, 500, 1, 1, 1, 1]}, "damaged"),
        ({"vox_offset": 3}, "vox_offset 3.0"),
        ({"vox_offset": np.nan}, "vox_offset nan"),
        ({"vox_offset": 1e6}, "damaged"),
        ({"magic": b"ni1"}, "two-file NIfTI"),
        ({"magic": b"abc"}, "no NIfTI header"),
        ({"sform_code": 1, "srow_x": [0, 0, 0, 0]}, "sform is singular"),
        ({"sform_code": 1, "srow_x": [np.nan, 0, 0, 0]}, "sform is singular or not finite"),
    ],
)
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_bad_headers_are_named(tmp_path: Path, fields: dict[str, Any], message: str, ending: str) -> None:
    path = save(tmp_path / f"case{ending}", counting(5, 4, 3), **fields)
    with pytest.raises(ImageError, match=message) as caught:
        read_image(path)
    assert str(path) in str(caught.value)
    assert caught.value.remedy


def test_what_is_not_nifti_at_all(tmp_path: Path) -> None:
    for content in (b"hello", b"\x1f\x8bnonsense", b"x" * 1000, struct.pack("<i", 348) + bytes(400)):
        (tmp_path / "a.nii.gz").write_bytes(content)
        with pytest.raises(ImageError, match="damaged"):
            read_image(tmp_path / "a.nii.gz")
