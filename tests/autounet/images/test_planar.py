"""PNG, BMP and JPEG: channels, bit depths, palettes; no geometry."""

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from autounet.errors import ImageError
from autounet.geometry import Grid
from autounet.images import read_image, read_labels, write_labels

GREY = np.arange(20, dtype=np.uint8).reshape(4, 5) * 10
COLOURS = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
FLAT = Grid(ndim=2, shape_zyx=(1, 4, 5), spacing_mm_zyx=(1.0, 1.0, 1.0))


@pytest.mark.parametrize("folder", ["imagesTr", "labelsTr"])
def test_real_images_equal_simpleitk(shared: Path, folder: str) -> None:
    for path in sorted((shared / "data/Dataset101_EM" / folder).glob("*.png"))[:5]:
        array, grid = read_image(path)
        expected = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))
        np.testing.assert_array_equal(array[0, 0], expected)
        assert array.flags.c_contiguous
        assert grid == Grid(ndim=2, shape_zyx=(1, *expected.shape), spacing_mm_zyx=(1.0, 1.0, 1.0))
        np.testing.assert_array_equal(read_labels(path)[0][0], expected)


@pytest.mark.parametrize("ending", [".png", ".bmp", ".PNG"])
def test_grey_and_colours(tmp_path: Path, ending: str) -> None:
    Image.fromarray(GREY).save(tmp_path / f"grey{ending}")
    array, grid = read_image(tmp_path / f"grey{ending}")
    np.testing.assert_array_equal(array, GREY[None, None])
    assert grid == FLAT
    Image.fromarray(COLOURS).save(tmp_path / f"colours{ending}")
    array, _ = read_image(tmp_path / f"colours{ending}")
    np.testing.assert_array_equal(array, np.moveaxis(COLOURS, -1, 0)[:, None])
    assert array.flags.c_contiguous


def test_transparency_is_dropped(tmp_path: Path) -> None:
    alpha = np.full((4, 5, 1), 7, np.uint8)
    Image.fromarray(np.concatenate([COLOURS, alpha], axis=-1)).save(tmp_path / "rgba.png")
    np.testing.assert_array_equal(read_image(tmp_path / "rgba.png")[0], np.moveaxis(COLOURS, -1, 0)[:, None])
    Image.fromarray(np.concatenate([GREY[..., None], alpha], axis=-1)).save(tmp_path / "la.png")
    np.testing.assert_array_equal(read_image(tmp_path / "la.png")[0], GREY[None, None])


def test_sixteen_bits(tmp_path: Path) -> None:
    deep = GREY.astype(np.uint16) * 300
    Image.fromarray(deep).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(read_image(tmp_path / "grey.png")[0], deep[None, None])
    np.testing.assert_array_equal(read_labels(tmp_path / "grey.png")[0], deep[None])
    colours = COLOURS.astype(np.uint16) * 1000
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(colours, isVector=True), str(tmp_path / "colours.png"))
    array, grid = read_image(tmp_path / "colours.png")
    np.testing.assert_array_equal(array, np.moveaxis(colours, -1, 0)[:, None])
    assert grid == FLAT


@pytest.mark.parametrize("bits", [2, 4])
def test_fewer_than_eight_bits_are_not_stretched(tmp_path: Path, bits: int) -> None:
    values = np.arange(20, dtype=np.uint8).reshape(4, 5) % 2**bits
    # Pillow writes few-bit PNGs only with a palette; turned into grey by hand: colour type 0 and no PLTE chunk.
    image = Image.fromarray(values, "L")
    image.putpalette([level for index in range(2**bits) for level in (index, index, index)])
    image.save(tmp_path / "palette.png", bits=bits)
    (tmp_path / "grey.png").write_bytes(palette_to_grey((tmp_path / "palette.png").read_bytes()))
    with Image.open(tmp_path / "grey.png") as check:
        assert check.tile[0][3] == f"L;{bits}"
    np.testing.assert_array_equal(read_labels(tmp_path / "grey.png")[0][0], values)
    np.testing.assert_array_equal(read_image(tmp_path / "grey.png")[0][0, 0], values)
    np.testing.assert_array_equal(read_labels(tmp_path / "palette.png")[0][0], values)


def palette_to_grey(png: bytes) -> bytes:
    """A PNG's chunks (length, name, content, CRC-32) with colour type 3 (palette) made 0 (grey) and the palette left out."""
    import struct
    import zlib

    out, place = png[:8], 8
    while place < len(png):
        (length,) = struct.unpack(">I", png[place : place + 4])
        name, content = png[place + 4 : place + 8], png[place + 8 : place + 8 + length]
        place += length + 12
        if name == b"IHDR":
            content = content[:9] + b"\0" + content[10:]
        if name != b"PLTE":
            out += struct.pack(">I", length) + name + content + struct.pack(">I", zlib.crc32(name + content))
    return out


@pytest.mark.parametrize("ending", [".png", ".bmp"])
def test_one_bit_is_0_and_1(tmp_path: Path, ending: str) -> None:
    Image.fromarray(GREY > 50).save(tmp_path / f"a{ending}")
    labels, _ = read_labels(tmp_path / f"a{ending}")
    np.testing.assert_array_equal(labels[0], GREY > 50)
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(read_image(tmp_path / f"a{ending}")[0][0, 0], GREY > 50)


@pytest.mark.parametrize("ending", [".png", ".bmp"])
def test_a_palette_is_indices_for_labels_and_colours_for_images(tmp_path: Path, ending: str) -> None:
    image = Image.fromarray(GREY % 3)
    image.putpalette([0, 0, 0, 255, 0, 0, 0, 128, 255])
    image.save(tmp_path / f"a{ending}")
    np.testing.assert_array_equal(read_labels(tmp_path / f"a{ending}")[0][0], GREY % 3)
    palette = np.array([[0, 0, 0], [255, 0, 0], [0, 128, 255]])
    np.testing.assert_array_equal(read_image(tmp_path / f"a{ending}")[0][:, 0], np.moveaxis(palette[GREY % 3], -1, 0))


def test_a_palette_with_transparency_gives_no_warning(tmp_path: Path) -> None:
    image = Image.fromarray(GREY % 3)
    image.putpalette([0, 0, 0, 255, 0, 0, 0, 128, 255])
    image.save(tmp_path / "a.png", transparency=bytes([0, 255, 255]))
    assert read_image(tmp_path / "a.png")[0].shape == (3, 1, 4, 5)


def test_jpeg_is_an_image_but_no_label_map(tmp_path: Path) -> None:
    Image.fromarray(np.full((16, 16), 90, np.uint8)).save(tmp_path / "a.jpg")
    np.testing.assert_array_equal(read_image(tmp_path / "a.jpg")[0], np.full((1, 1, 16, 16), 90))
    with pytest.raises(ImageError, match=r"JPEG cannot hold labels.*Save the label map as PNG"):
        read_labels(tmp_path / "a.jpg")
    with pytest.raises(ImageError, match=r"cannot be written in this format: found \.jpg"):
        write_labels(tmp_path / "b.jpg", np.zeros((1, 4, 5), np.uint8), FLAT)
    Image.fromarray(COLOURS).convert("CMYK").save(tmp_path / "cmyk.jpg")
    assert read_image(tmp_path / "cmyk.jpg")[0].shape == (3, 1, 4, 5)


@settings(max_examples=40, deadline=None)
@given(
    labels=arrays(
        st.sampled_from(["u1", "u2", "i8"]), st.tuples(st.just(1), st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 255)
    ),
    factor=st.sampled_from([1, 257]),
    ending=st.sampled_from([".png", ".bmp"]),
)
def test_labels_come_back(tmp_path_factory: pytest.TempPathFactory, labels: Any, factor: int, ending: str) -> None:
    labels = labels.astype(np.int64) * (factor if ending == ".png" else 1)
    grid = Grid(ndim=2, shape_zyx=labels.shape, spacing_mm_zyx=(1.0, 1.0, 1.0))
    path = tmp_path_factory.mktemp("planar") / f"labels{ending}"
    write_labels(path, labels, grid)
    found, own = read_labels(path)
    np.testing.assert_array_equal(found, labels)
    assert own == grid


def png(path: Path, header: tuple[int, int, int, int, int], rows: list[bytes]) -> Path:
    """A PNG by hand: width, height, bits, kind of colour (0 grey, 4 grey and transparency), interlace."""
    width, height, bits, kind, interlace = header
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, interlace)),
        (b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows))),
        (b"IEND", b""),
    ]
    packed = [struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(packed))
    return path


def test_interlaced_rows_come_in_order(tmp_path: Path) -> None:
    plane = np.arange(64, dtype=np.uint8).reshape(8, 8)
    # Adam7's seven passes: first row, first column, steps of both.
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    rows = [row.tobytes() for y, x, step_y, step_x in passes for row in plane[y::step_y, x::step_x]]
    np.testing.assert_array_equal(read_labels(png(tmp_path / "a.png", (8, 8, 8, 0, 1), rows))[0][0], plane)


def test_deep_grey_with_transparency_is_refused_with_a_remedy(tmp_path: Path) -> None:
    rows = [bytes(4 * 5)] * 4
    with pytest.raises(ImageError, match=r"16-bit grey with transparency cannot be read\. Save it without transparency"):
        read_image(png(tmp_path / "a.png", (5, 4, 16, 4, 0), rows))


@pytest.mark.parametrize("ending", [".png", ".jpg"])
def test_a_camera_that_was_turned_turns_nothing(tmp_path: Path, ending: str) -> None:
    """Labels are drawn on the pixels as they are stored."""
    turned = Image.Exif()
    turned[274] = 6  # orientation: a quarter turn
    Image.fromarray(np.repeat(GREY, 8, axis=0)).save(tmp_path / f"a{ending}", exif=turned)
    image, grid = read_image(tmp_path / f"a{ending}")
    assert grid.shape_zyx == (1, 32, 5)
    np.testing.assert_allclose(image[0, 0], np.repeat(GREY, 8, axis=0), atol=8)


def test_what_these_formats_cannot_hold(tmp_path: Path) -> None:
    volume = Grid(shape_zyx=(2, 4, 5), spacing_mm_zyx=(1.0, 1.0, 1.0))
    with pytest.raises(ImageError, match=r"PNG holds a single 2D image: found 2 slices. Write .nii.gz"):
        write_labels(tmp_path / "a.png", np.zeros((2, 4, 5), np.uint8), volume)
    with pytest.raises(ImageError, match="too large for BMP: found 256, expected at most 255"):
        write_labels(tmp_path / "a.bmp", np.full((1, 4, 5), 256), FLAT)
    with pytest.raises(ImageError, match="too large for PNG: found 65536"):
        write_labels(tmp_path / "a.png", np.full((1, 4, 5), 65536), FLAT)
    assert list(tmp_path.iterdir()) == []
    Image.fromarray(COLOURS).save(tmp_path / "colours.png")
    with pytest.raises(ImageError, match="one channel: found 3 channels"):
        read_labels(tmp_path / "colours.png")


@pytest.mark.parametrize("ending", [".png", ".bmp", ".jpg"])
def test_a_truncated_file_is_noticed_wherever_it_is_cut(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a{ending}"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 50)).astype(np.uint8)).save(path)
    whole = path.read_bytes()
    for kept in (1, 10, 30, 100, len(whole) // 2, len(whole) - 100, len(whole) - 40):
        path.write_bytes(whole[:kept])
        with pytest.raises(ImageError, match=r"is damaged, incomplete or of another format.*Copy the file again"):
            read_image(path)


def test_an_absurd_size_and_another_format(tmp_path: Path) -> None:
    Image.fromarray(GREY).save(tmp_path / "a.bmp")
    content = bytearray((tmp_path / "a.bmp").read_bytes())
    content[18:26] = (2_000_000).to_bytes(4, "little") * 2  # width and height
    (tmp_path / "a.bmp").write_bytes(content)
    with pytest.raises(ImageError, match="claims 32,000,000,000,000 bytes"):
        read_image(tmp_path / "a.bmp")
    Image.fromarray(GREY).save(tmp_path / "b.png")
    (tmp_path / "b.png").rename(tmp_path / "b.bmp")
    with pytest.raises(ImageError, match="of another format"):
        read_image(tmp_path / "b.bmp")
