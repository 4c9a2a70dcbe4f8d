"""TIFF: planes, stacks, colours, spacing where it is certain."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from autounet.errors import ImageError
from autounet.geometry import Grid
from autounet.images import read_image, read_labels, read_size, write_labels

STACK = np.arange(140, dtype=np.uint8).reshape(7, 4, 5)
COLOURS = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
UNIT = (1.0, 1.0, 1.0)


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "f4", "f8"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_plane_in_every_type_of_number(tmp_path: Path, dtype: str, order: str) -> None:
    plane = STACK[0].astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", plane, byteorder=order, resolution=(300, 300), resolutionunit="INCH")
    array, grid = read_image(tmp_path / "a.tif")
    np.testing.assert_array_equal(array, plane[None, None])
    # 300 dots per inch are a printer's, not a microscope's.
    assert grid == Grid(ndim=2, shape_zyx=(1, 4, 5), spacing_mm_zyx=UNIT)
    np.testing.assert_array_equal(read_labels(tmp_path / "a.tif")[0], plane[None])


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 7])
def test_stacks(tmp_path: Path, depth: int) -> None:
    stack = STACK[:depth]
    tifffile.imwrite(tmp_path / "axes.tif", stack, photometric="minisblack", metadata={"axes": "ZYX"})
    array, grid = read_image(tmp_path / "axes.tif")
    np.testing.assert_array_equal(array, stack[None])
    assert grid == Grid(shape_zyx=(depth, 4, 5), spacing_mm_zyx=UNIT)
    tifffile.imwrite(tmp_path / "pages.tif", stack, photometric="minisblack", metadata=None, bigtiff=True)
    array, grid = read_image(tmp_path / "pages.tif")
    np.testing.assert_array_equal(array, stack[None])
    assert grid.ndim == (2 if depth == 1 else 3)


def test_colours_and_channels(tmp_path: Path) -> None:
    expected = np.moveaxis(COLOURS, -1, 0)[:, None]
    tifffile.imwrite(tmp_path / "interleaved.tif", COLOURS, photometric="rgb")
    tifffile.imwrite(tmp_path / "planes.tif", np.moveaxis(COLOURS, -1, 0), photometric="rgb", planarconfig="separate")
    with_alpha = np.concatenate([COLOURS, np.full((4, 5, 1), 9, np.uint8)], axis=-1)
    tifffile.imwrite(tmp_path / "alpha.tif", with_alpha, photometric="rgb", extrasamples=["unassalpha"])
    for name in ("interleaved.tif", "planes.tif", "alpha.tif"):
        array, grid = read_image(tmp_path / name)
        np.testing.assert_array_equal(array, expected)
        assert array.flags.c_contiguous
        assert grid.ndim == 2
    tifffile.imwrite(tmp_path / "channels.tif", STACK[:2], imagej=True, metadata={"axes": "CYX"})
    np.testing.assert_array_equal(read_image(tmp_path / "channels.tif")[0], STACK[:2, None])
    hyper = STACK[:6].reshape(3, 2, 4, 5)
    tifffile.imwrite(tmp_path / "hyper.tif", hyper, imagej=True, metadata={"axes": "ZCYX"})
    np.testing.assert_array_equal(read_image(tmp_path / "hyper.tif")[0], hyper.transpose(1, 0, 2, 3))
    tifffile.imwrite(tmp_path / "film.tif", hyper, imagej=True, metadata={"axes": "TZYX"})
    with pytest.raises(ImageError, match="more axes than an image can have: found axes TZYX"):
        read_image(tmp_path / "film.tif")


def test_palettes_and_one_bit(tmp_path: Path) -> None:
    image = Image.fromarray(STACK[0] % 3)
    image.putpalette([0, 0, 0, 255, 0, 0, 0, 128, 255])
    image.save(tmp_path / "palette.tif")
    np.testing.assert_array_equal(read_labels(tmp_path / "palette.tif")[0][0], STACK[0] % 3)
    colours = read_image(tmp_path / "palette.tif")[0]
    # TIFF's palettes have 16 bits: 255 is 65280 (256 * 255).
    np.testing.assert_array_equal(colours[:, 0, 0, 1] // 256, [255, 0, 0])
    Image.fromarray(STACK[0] > 9).save(tmp_path / "bit.tif")
    np.testing.assert_array_equal(read_labels(tmp_path / "bit.tif")[0][0], STACK[0] > 9)


def test_imagej_spacing(tmp_path: Path) -> None:
    def save(**metadata: Any) -> Grid:
        tifffile.imwrite(tmp_path / "a.tif", STACK, imagej=True, resolution=(4.0, 2.0), metadata={"axes": "ZYX", **metadata})
        return read_image(tmp_path / "a.tif")[1]

    # 4 and 2 pixels per micrometre: 0.25 and 0.5 micrometres are 0.00025 and 0.0005 mm.
    np.testing.assert_allclose(save(spacing=1.5, unit="um").spacing_mm_zyx, (0.0015, 0.0005, 0.00025), rtol=1e-6)
    np.testing.assert_allclose(save(spacing=1.5, unit="\\u00B5m").spacing_mm_zyx, (0.0015, 0.0005, 0.00025), rtol=1e-6)
    np.testing.assert_allclose(save(spacing=1.5, unit="mm").spacing_mm_zyx, (1.5, 0.5, 0.25), rtol=1e-6)
    # Without a unit, or without the distance of the slices, it is a guess.
    assert save(spacing=1.5, unit="pixel").spacing_mm_zyx == UNIT
    assert save(spacing=1.5).spacing_mm_zyx == UNIT
    assert save(unit="um").spacing_mm_zyx == UNIT
    assert save(spacing=0, unit="um").spacing_mm_zyx == UNIT


def test_spacing_in_a_file_beside_as_nnunet_has_it(tmp_path: Path) -> None:
    """``case.json`` serves the image ``case_0000.tif`` and, in its own folder, the label map ``case.tif``."""
    for name in ("case_0000.tif", "case.tif", "other.tif"):
        tifffile.imwrite(tmp_path / name, STACK)
    (tmp_path / "case.json").write_text('{"spacing": [5, 1.5, 1.25]}')
    (tmp_path / "other.json").write_text('{"Manufacturer": "of another purpose"}')
    assert read_image(tmp_path / "case_0000.tif")[1].spacing_mm_zyx == (5.0, 1.5, 1.25)
    assert read_labels(tmp_path / "case.tif")[1].spacing_mm_zyx == (5.0, 1.5, 1.25)
    assert read_image(tmp_path / "other.tif")[1].spacing_mm_zyx == UNIT
    for name in ("case_0000.tif", "case.tif", "other.tif"):
        assert read_size(tmp_path / name)[1] == read_image(tmp_path / name)[1]
    for wrong in ("[5, 1.5]", "[0, 1, 1]", '"thick"'):
        (tmp_path / "case.json").write_text(f'{{"spacing": {wrong}}}')
        with pytest.raises(ImageError, match=r"case\.json.*spacing"):
            read_image(tmp_path / "case_0000.tif")


def test_ome_spacing(tmp_path: Path) -> None:
    def save(**metadata: Any) -> Grid:
        tifffile.imwrite(tmp_path / "a.tif", STACK, ome=True, photometric="minisblack", metadata={"axes": "ZYX", **metadata})
        assert read_size(tmp_path / "a.tif")[1] == read_image(tmp_path / "a.tif")[1]
        return read_image(tmp_path / "a.tif")[1]

    sizes = {"PhysicalSizeX": 0.25, "PhysicalSizeY": 0.5, "PhysicalSizeZ": 2.0}
    np.testing.assert_allclose(save(**sizes).spacing_mm_zyx, (0.002, 0.0005, 0.00025))
    units = {f"PhysicalSize{axis}Unit": "mm" for axis in "XYZ"}
    np.testing.assert_allclose(save(**sizes, **units).spacing_mm_zyx, (2.0, 0.5, 0.25))
    assert save(PhysicalSizeX=0.25, PhysicalSizeY=0.5).spacing_mm_zyx == UNIT


@pytest.mark.parametrize("compression", ["tiff_lzw", "packbits", "tiff_adobe_deflate"])
@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_common_compressions_need_no_other_package(tmp_path: Path, compression: str, dtype: str) -> None:
    pages = [Image.fromarray(plane.astype(dtype)) for plane in STACK]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:], compression=compression)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif")[0], STACK[None])
    Image.fromarray(COLOURS).save(tmp_path / "b.tif", compression=compression)
    np.testing.assert_array_equal(read_image(tmp_path / "b.tif")[0], np.moveaxis(COLOURS, -1, 0)[:, None])


def test_labels_of_ome_tiff_keep_their_spacing(tmp_path: Path) -> None:
    """OME-XML has no place for our own key: its sizes are read back by us, and by name."""
    grid = Grid(shape_zyx=STACK.shape, spacing_mm_zyx=(0.0005, 0.0002, 0.0003))
    write_labels(tmp_path / "a.ome.tif", np.ones(STACK.shape, np.uint8), grid)
    assert read_labels(tmp_path / "a.ome.tif")[1].spacing_mm_zyx == pytest.approx(grid.spacing_mm_zyx)
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as tif:
        assert 'PhysicalSizeX="0.3"' in tif.ome_metadata
        assert 'PhysicalSizeZ="0.5"' in tif.ome_metadata


@settings(max_examples=40, deadline=None)
@given(
    labels=arrays(st.sampled_from(["u1", "u2", "u4", "i8"]), st.tuples(*[st.integers(1, 6)] * 3), elements=st.integers(0, 255)),
    factor=st.sampled_from([1, 257, 2**20]),
    spacing=st.tuples(*[st.floats(1e-4, 20)] * 3),
    ending=st.sampled_from([".tif", ".tiff"]),
)
def test_labels_of_a_volume_come_back(
    tmp_path_factory: pytest.TempPathFactory, labels: Any, factor: int, spacing: Any, ending: str
) -> None:
    labels = labels.astype(np.int64) * factor
    grid = Grid(shape_zyx=labels.shape, spacing_mm_zyx=spacing)
    path = tmp_path_factory.mktemp("tiff") / f"labels{ending}"
    write_labels(path, labels, grid)
    found, own = read_labels(path)
    np.testing.assert_array_equal(found, labels)
    assert own == grid
    np.testing.assert_array_equal(tifffile.imread(path).reshape(labels.shape), labels)


@settings(max_examples=20, deadline=None)
@given(labels=arrays("u1", st.tuples(st.just(1), st.integers(1, 9), st.integers(1, 9))))
def test_planar_labels_come_back(tmp_path_factory: pytest.TempPathFactory, labels: Any) -> None:
    grid = Grid(ndim=2, shape_zyx=labels.shape, spacing_mm_zyx=UNIT)
    path = tmp_path_factory.mktemp("tiff") / "labels.tif"
    write_labels(path, labels, grid)
    found, own = read_labels(path)
    np.testing.assert_array_equal(found, labels)
    assert own == grid


@pytest.mark.parametrize(("tag", "value"), [("ResolutionUnit", 32768), ("XResolution", (0, 1)), ("YResolution", (5, 0))])
def test_a_resolution_that_is_none_is_left_out(tag: str, value: Any, tmp_path: Path) -> None:
    """Found by fuzzing: what reading passes over must not keep a label map from being written."""
    tifffile.imwrite(tmp_path / "image.tif", STACK[0], resolution=((4, 1), (7, 3)), resolutionunit="CENTIMETER")
    with tifffile.TiffFile(tmp_path / "image.tif", mode="r+") as tif:
        tif.pages[0].tags[tag].overwrite(value)
    labels, grid = np.ones(STACK[:1].shape, np.uint8), read_image(tmp_path / "image.tif")[1]
    write_labels(tmp_path / "labels.tif", labels, grid, like=tmp_path / "image.tif")
    assert read_labels(tmp_path / "labels.tif")[0].all()


def test_the_resolution_of_the_source_is_kept(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "image.tif", STACK[0], resolution=((1234567, 1000), (7, 3)), resolutionunit="CENTIMETER")
    _, grid = read_image(tmp_path / "image.tif")
    write_labels(tmp_path / "labels.tif", STACK[:1], grid, like=tmp_path / "image.tif")
    with tifffile.TiffFile(tmp_path / "image.tif") as before, tifffile.TiffFile(tmp_path / "labels.tif") as after:
        for name in ("XResolution", "YResolution", "ResolutionUnit"):
            assert after.pages[0].tags[name].value == before.pages[0].tags[name].value


@pytest.mark.parametrize("kind", ["plain", "pages", "deflated", "lzw"])
def test_a_truncated_file_is_noticed_wherever_it_is_cut(tmp_path: Path, kind: str) -> None:
    stack = np.random.default_rng(0).integers(0, 255, (5, 30, 40)).astype(np.uint8)
    path = tmp_path / "a.tif"
    if kind == "lzw":
        pages = [Image.fromarray(plane) for plane in stack]
        pages[0].save(path, save_all=True, append_images=pages[1:], compression="tiff_lzw")
    else:
        metadata = None if kind == "pages" else {"axes": "ZYX"}
        tifffile.imwrite(path, stack, photometric="minisblack", metadata=metadata, compression="zlib" if kind == "deflated" else None)
    whole = path.read_bytes()
    noticed = 0
    for kept in range(1, len(whole), len(whole) // 50):
        path.write_bytes(whole[:kept])
        try:
            array, _ = read_image(path)
        except ImageError:
            noticed += 1
        else:
            np.testing.assert_array_equal(array[0], stack)
    assert noticed >= 50


def test_strips_tiles_half_precision_and_big_tiff(tmp_path: Path) -> None:
    wide = np.tile(STACK, (1, 8, 8))
    tifffile.imwrite(tmp_path / "tiles.tif", wide, tile=(16, 16), photometric="minisblack", bigtiff=True)
    tifffile.imwrite(tmp_path / "strips.tif", wide, rowsperstrip=3, photometric="minisblack")
    tifffile.imwrite(tmp_path / "half.tif", wide.astype(np.float16), photometric="minisblack")
    for name in ("tiles.tif", "strips.tif", "half.tif"):
        np.testing.assert_array_equal(read_image(tmp_path / name)[0][0], wide)
        assert read_size(tmp_path / name) == (1, read_image(tmp_path / name)[1])


@pytest.mark.parametrize("axes", ["CZYX", "ZCYX", "TCZYX", "TZCYX", "CYX", "YX"])
@pytest.mark.parametrize("kind", ["ome", "imagej"])
def test_axes_of_microscopes(tmp_path: Path, axes: str, kind: str) -> None:
    hyper = np.arange(2 * 3 * 4 * 5, dtype=np.uint8).reshape(2, 3, 4, 5)  # c, z, y, x
    if kind == "imagej" and "CZ" in axes:
        axes = axes.replace("CZ", "ZC")  # the only order it has
    expected = hyper[: 2 if "C" in axes else 1, : 3 if "Z" in axes else 1]
    order = [name for name in axes if name != "T"]
    stored = expected[tuple(slice(None) if name in axes else 0 for name in "CZYX")]
    stored = stored.transpose([[name for name in "CZYX" if name in axes].index(name) for name in order])
    options: dict[str, Any] = {"ome": True, "photometric": "minisblack"} if kind == "ome" else {"imagej": True}
    tifffile.imwrite(tmp_path / "a.tif", stored[None] if axes[0] == "T" else stored, metadata={"axes": axes}, **options)
    image, grid = read_image(tmp_path / "a.tif")
    np.testing.assert_array_equal(image, expected)
    assert grid.ndim == (3 if "Z" in axes else 2)
    assert read_size(tmp_path / "a.tif") == (len(expected), grid)


def test_of_several_images_the_first_is_taken_and_that_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(STACK[:3], photometric="minisblack", metadata={"axes": "ZYX"})
        writer.write(STACK[:2, :3], photometric="minisblack", metadata={"axes": "ZYX"})
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif")[0][0], STACK[:3])
    assert [record.getMessage() for record in caplog.records] == [f"{tmp_path / 'a.tif'}: holds 2 images; the first is taken"]


def test_inks_are_no_colours_and_jpeg_no_label_map(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 5, 4), np.uint8), "CMYK").save(tmp_path / "inks.tif")
    with pytest.raises(ImageError, match="colours of this kind cannot be used: found SEPARATED, expected grey or RGB"):
        read_image(tmp_path / "inks.tif")
    Image.fromarray(np.full((16, 16), 90, np.uint8)).save(tmp_path / "lossy.tif", compression="jpeg")
    np.testing.assert_array_equal(read_image(tmp_path / "lossy.tif")[0], np.full((1, 1, 16, 16), 90))
    with pytest.raises(ImageError, match="JPEG cannot hold labels"):
        read_labels(tmp_path / "lossy.tif")
    # Where 0 is white, numbers are not turned round: labels are what was stored.
    tifffile.imwrite(tmp_path / "white.tif", STACK[0], photometric="miniswhite")
    np.testing.assert_array_equal(read_labels(tmp_path / "white.tif")[0][0], STACK[0])


def test_a_compression_that_needs_another_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Written with deflate (code 8), then said to be Zstandard (50000), as if no package here could unpack it."""
    tifffile.imwrite(tmp_path / "a.tif", STACK, photometric="minisblack", compression="zlib")
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+b") as tif:
        for page in tif.pages:
            page.tags["Compression"].overwrite(50000)
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    with pytest.raises(ImageError, match=r"the compression needs another package: found ZSTD\..*pip install imagecodecs"):
        read_image(tmp_path / "a.tif")


def test_what_is_no_tiff(tmp_path: Path) -> None:
    for content in (b"hello", b"x" * 1000, b"II*\0" + b"\xff" * 100):
        (tmp_path / "a.tif").write_bytes(content)
        with pytest.raises(ImageError, match="damaged"):
            read_image(tmp_path / "a.tif")
    tifffile.imwrite(tmp_path / "c.tif", np.zeros((4, 5), np.complex64))
    with pytest.raises(ImageError, match="found complex64"):
        read_image(tmp_path / "c.tif")
