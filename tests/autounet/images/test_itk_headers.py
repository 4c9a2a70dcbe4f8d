"""NRRD and MetaImage headers written by hand, with every field that says something about numbers, channels and place."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from autounet.errors import ImageError
from autounet.images import read_image, read_size

STACK = np.arange(7 * 4 * 5).reshape(7, 4, 5)
VECTORS = np.arange(2 * 7 * 4 * 5).reshape(7, 4, 5, 2)
PLACED = "space: {space}\nspace directions: (0.5,0,0) (0,0.7,0) (0,0,3)\nspace origin: (1,2,3)\n"


def nrrd(path: Path, fields: str, voxels: bytes, sizes: str = "5 4 7", data_file: str = "") -> Path:
    """A header with these fields; the voxels behind it or in a file beside it."""
    header = f"NRRD0005\ntype: short\ndimension: {len(sizes.split())}\nsizes: {sizes}\n{fields}"
    if data_file:
        path.with_name(data_file).write_bytes(voxels)
        path.write_bytes(f"{header}data file: {data_file}\n".encode())
    else:
        path.write_bytes(f"{header}\n".encode() + voxels)
    return path


LITTLE = "endian: little\n"
LPS = PLACED.format(space="left-posterior-superior")
RAW = STACK.astype("<i2").tobytes()


@pytest.mark.parametrize(
    ("fields", "voxels"),
    [
        (f"{LITTLE}encoding: raw\n{LPS}", RAW),
        (f"endian: big\nencoding: raw\n{LPS}", STACK.astype(">i2").tobytes()),
        (f"{LITTLE}encoding: gzip\n{LPS}", gzip.compress(RAW)),
        (f"encoding: ascii\n{LPS}", " ".join(map(str, STACK.ravel().tolist())).encode()),
        (f"# a remark: of no meaning\n{LITTLE}encoding: raw\n{LPS}name:=value\n", RAW),
    ],
)
def test_encodings_of_nrrd(tmp_path: Path, fields: str, voxels: bytes) -> None:
    for path in (nrrd(tmp_path / "a.nrrd", fields, voxels), nrrd(tmp_path / "b.nhdr", fields, voxels, data_file="b.raw")):
        image, grid = read_image(path)
        np.testing.assert_array_equal(image[0], STACK)
        assert (grid.spacing_mm_zyx, grid.origin_mm_xyz) == ((3.0, 0.7, 0.5), (1.0, 2.0, 3.0))
        assert read_size(path) == (1, grid)


def test_bzip2_is_refused_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"cannot be unpacked: found bzip2, expected gzip or raw\. Save it with gzip"):
        read_image(nrrd(tmp_path / "a.nrrd", f"{LITTLE}encoding: bzip2\n{LPS}", b"BZh9"))


def test_a_small_header_may_name_a_large_file(tmp_path: Path) -> None:
    """The voxels' size is not measured against the header's."""
    voxels = gzip.compress(bytes(2 * 300 * 300 * 300))
    path = nrrd(tmp_path / "a.nrrd", f"{LITTLE}encoding: gzip\n", voxels, sizes="300 300 300", data_file="a.raw.gz")
    assert read_image(path)[0].shape == (1, 300, 300, 300)


@pytest.mark.parametrize(
    ("space", "signs"),
    [
        ("left-posterior-superior", (1, 1, 1)),
        ("LPS", (1, 1, 1)),
        ("right-anterior-superior", (-1, -1, 1)),
        ("RAS", (-1, -1, 1)),
        ("left-anterior-superior", (1, -1, 1)),
    ],
)
def test_worlds_of_nrrd_become_left_posterior_superior(tmp_path: Path, space: str, signs: tuple[int, int, int]) -> None:
    _, grid = read_image(nrrd(tmp_path / "a.nrrd", f"{LITTLE}encoding: raw\n{PLACED.format(space=space)}", RAW))
    assert grid.origin_mm_xyz == tuple(sign * value for sign, value in zip(signs, (1, 2, 3), strict=True))
    np.testing.assert_array_equal(np.array(grid.direction).reshape(3, 3), np.diag(signs))


def test_oblique_directions_of_nrrd(tmp_path: Path) -> None:
    turned = LPS.replace("(0.5,0,0) (0,0.7,0)", "(0.4,0.3,0) (-0.42,0.56,0)")
    _, grid = read_image(nrrd(tmp_path / "a.nrrd", f"{LITTLE}encoding: raw\n{turned}", RAW))
    # Columns: (0.8, 0.6) * 0.5 and (-0.6, 0.8) * 0.7.
    np.testing.assert_allclose(np.array(grid.direction).reshape(3, 3), [[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]], atol=1e-12)
    np.testing.assert_allclose(grid.spacing_mm_zyx, (3, 0.7, 0.5), rtol=1e-12)


@pytest.mark.parametrize("kind", ["vector", "list", "2-vector", "covariant-vector"])
def test_channels_of_nrrd_stand_first_or_last(tmp_path: Path, kind: str) -> None:
    common = f"{LITTLE}encoding: raw\nspace: LPS\nspace origin: (1,2,3)\n"
    first = f"{common}kinds: {kind} domain domain domain\nspace directions: none (0.5,0,0) (0,0.7,0) (0,0,3)\n"
    last = f"{common}kinds: domain domain domain {kind}\nspace directions: (0.5,0,0) (0,0.7,0) (0,0,3) none\n"
    channels = np.moveaxis(VECTORS, -1, 0)
    one = nrrd(tmp_path / "first.nrrd", first, VECTORS.astype("<i2").tobytes(), sizes="2 5 4 7")
    other = nrrd(tmp_path / "last.nrrd", last, channels.astype("<i2").tobytes(), sizes="5 4 7 2")
    for path in (one, other):
        image, grid = read_image(path)
        np.testing.assert_array_equal(image, channels)
        assert grid.spacing_mm_zyx == (3.0, 0.7, 0.5)
        assert read_size(path) == (2, grid)


def test_positions_in_time_are_refused(tmp_path: Path) -> None:
    fields = f"{LITTLE}encoding: raw\nspace: LPS\nkinds: domain domain domain time\n"
    fields += "space directions: (0.5,0,0) (0,0.7,0) (0,0,3) none\nspace origin: (1,2,3)\n"
    path = nrrd(tmp_path / "a.nrrd", fields, VECTORS.astype("<i2").tobytes(), sizes="5 4 7 2")
    with pytest.raises(ImageError, match="4 axes of positions in a space of 3, expected 3 axes of positions, and for channels"):
        read_image(path)


@pytest.mark.parametrize(("unit", "factor"), [("mm", 1), ("um", 1e-3), ("m", 1000), ("nm", 1e-6), ("", 1), ("???", 1)])
def test_units_of_nrrd(tmp_path: Path, unit: str, factor: float) -> None:
    units = f'space units: "{unit}" "{unit}" "{unit}"\n'
    _, grid = read_image(nrrd(tmp_path / "a.nrrd", f"{LITTLE}encoding: raw\n{LPS}{units}", RAW))
    np.testing.assert_allclose(grid.spacing_mm_zyx, np.array([3, 0.7, 0.5]) * factor, rtol=1e-12)
    np.testing.assert_allclose(grid.origin_mm_xyz, np.array([1, 2, 3]) * factor, rtol=1e-12)


def test_spacings_without_a_space(tmp_path: Path) -> None:
    _, grid = read_image(nrrd(tmp_path / "a.nrrd", f"{LITTLE}encoding: raw\nspacings: 0.5 0.7 3\n", RAW))
    assert grid.spacing_mm_zyx == (3.0, 0.7, 0.5)
    units = 'spacings: 0.5 0.7 3\nunits: "um" "um" "um"\n'
    np.testing.assert_allclose(
        read_image(nrrd(tmp_path / "a.nrrd", f"{LITTLE}encoding: raw\n{units}", RAW))[1].spacing_mm_zyx, (3e-3, 7e-4, 5e-4)
    )


def meta(path: Path, voxels: bytes, data_file: str = "LOCAL", **fields: str) -> Path:
    """A MetaImage; fields replace those of the same name, or are added."""
    known = {
        **{"ObjectType": "Image", "NDims": "3", "BinaryData": "True", "BinaryDataByteOrderMSB": "False", "CompressedData": "False"},
        **{"TransformMatrix": "1 0 0 0 1 0 0 0 1", "Offset": "1 2 3", "CenterOfRotation": "0 0 0", "AnatomicalOrientation": "RAI"},
        **{"ElementSpacing": "0.5 0.7 3", "DimSize": "5 4 7", **fields, "ElementType": "MET_SHORT"},
        "ElementDataFile": data_file,  # the last by the rules
    }
    path.write_bytes("".join(f"{name} = {value}\n" for name, value in known.items()).encode() + voxels)
    return path


@pytest.mark.parametrize("orientation", ["RAI", "LPS", "RAS", "???"])
def test_the_matrix_of_a_metaimage_counts_and_its_letters_do_not(tmp_path: Path, orientation: str) -> None:
    """As ITK has it: AnatomicalOrientation repeats what the matrix says, and programs disagree about what the letters mean."""
    path = meta(tmp_path / "a.mha", RAW, AnatomicalOrientation=orientation, TransformMatrix="0 1 0 -1 0 0 0 0 1")
    image, grid = read_image(path)
    np.testing.assert_array_equal(image[0], STACK)
    # The first three numbers are the direction of x, which is a column.
    np.testing.assert_array_equal(np.array(grid.direction).reshape(3, 3), [[0, -1, 0], [1, 0, 0], [0, 0, 1]])
    assert (grid.spacing_mm_zyx, grid.origin_mm_xyz) == ((3.0, 0.7, 0.5), (1.0, 2.0, 3.0))


def test_byte_order_channels_and_units_of_a_metaimage(tmp_path: Path) -> None:
    big = meta(tmp_path / "big.mha", STACK.astype(">i2").tobytes(), BinaryDataByteOrderMSB="True")
    np.testing.assert_array_equal(read_image(big)[0][0], STACK)
    channels = meta(tmp_path / "channels.mha", VECTORS.astype("<i2").tobytes(), ElementNumberOfChannels="2")
    np.testing.assert_array_equal(read_image(channels)[0], np.moveaxis(VECTORS, -1, 0))
    assert read_size(channels)[0] == 2
    _, grid = read_image(meta(tmp_path / "um.mha", RAW, DistanceUnits="um"))
    np.testing.assert_allclose(grid.spacing_mm_zyx, (3e-3, 7e-4, 5e-4))
    np.testing.assert_allclose(grid.origin_mm_xyz, (1e-3, 2e-3, 3e-3))


def test_a_metaimage_of_one_file_per_slice(tmp_path: Path) -> None:
    for index, plane in enumerate(STACK.astype("<i2")):
        (tmp_path / f"{index}.raw").write_bytes(plane.tobytes())
    names = "\n".join(f"{index}.raw" for index in range(7))
    np.testing.assert_array_equal(read_image(meta(tmp_path / "a.mhd", b"", data_file=f"LIST\n{names}"))[0][0], STACK)
