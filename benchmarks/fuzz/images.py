"""Targets: image and label files of every format."""

import io
import struct
import tempfile
import zlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from autounet.errors import AutounetError
from autounet.images import read_image, read_labels, read_size, write_labels
from benchmarks.fuzz.mutate import Mutate, either, of_bytes, of_fields, of_lines
from benchmarks.fuzz.target import Target, check_canary
from benchmarks.fuzz.watch import MOST_MESSAGE

SMALL = np.arange(60, dtype=np.int16).reshape(3, 4, 5)


def read(data: bytes, folder: Path, ending: str) -> None:
    """Reads a file in every way that a command does: its size, as an image, as a label map; writes labels like it."""
    path = folder / f"case_0000{ending}"
    path.write_bytes(data)
    refusals = 0
    for way in (read_size, read_image, read_labels):
        try:
            found = way(path)
        except AutounetError as error:
            refusals += 1
            text = str(error)
            if len(text) > MOST_MESSAGE or not text.replace("\t", " ").isprintable():
                raise AssertionError(f"a message that no terminal should be given: {text[:300]!r}") from None
        else:
            if way is not read_size:
                check_canary(np.ascontiguousarray(found[0]).tobytes())
                check_canary(np.ascontiguousarray(found[0]).astype(np.uint8).tobytes())
            if way is read_image and zlib.crc32(data) % 8 == 0:  # writing waits for the disk
                _write_like(path, found, folder / f"out{ending}")


def _write_like(path: Path, found: Any, out: Path) -> None:
    """Label maps are written with the header of their image, whatever is in it."""
    image, grid = found
    if image[0].size > 10**6 or out.suffix in (".jpg", ".jpeg"):
        return
    try:
        write_labels(out, np.zeros(grid.shape_zyx, np.uint8), grid, like=path)
    except AutounetError:
        return
    assert read_labels(out)[0].shape == grid.shape_zyx


def images(ending: str, mutate: Mutate, seeds: Mapping[str, bytes] | Any, what: str, most_bytes: int = 2**16) -> Target:
    """A target for files of an ending."""
    made = seeds if callable(seeds) else lambda _: seeds
    return Target(
        ending.strip(".").replace(".", "_"), what, made, partial(read, ending=ending), either(mutate, mutate, of_bytes), most_bytes
    )


# NIfTI ------------------------------------------------------------------------------------------------------------------------

NIFTI_1 = [
    *((0, "i"), (39, "b"), (70, "h"), (72, "h"), (108, "f"), (112, "f"), (116, "f"), (123, "B"), (252, "h"), (254, "h"), (344, "i")),
    *((40 + 2 * axis, "h") for axis in range(8)),
    *((76 + 4 * axis, "f") for axis in range(8)),
    *((256 + 4 * at, "f") for at in range(18)),
]
NIFTI_2 = [
    *((0, "i"), (12, "h"), (14, "h"), (168, "q"), (176, "d"), (184, "d"), (344, "i"), (348, "i"), (500, "i")),
    *((16 + 8 * axis, "q") for axis in range(8)),
    *((104 + 8 * axis, "d") for axis in range(8)),
    *((352 + 8 * at, "d") for at in range(18)),
]


def _niftis(folder: Path) -> dict[str, bytes]:
    import nibabel as nib

    found = {}
    for name, kind in (("nifti1", nib.Nifti1Image), ("nifti2", nib.Nifti2Image)):
        for dtype in ("u1", "i2", "f4"):
            image = kind(SMALL.astype(dtype), np.diag([1.0, 2, 3, 1]))
            found[f"{name}-{dtype}"] = image.to_bytes()
    found["four-axes"] = nib.Nifti1Image(np.ones((3, 4, 5, 2), np.uint8), np.eye(4)).to_bytes()
    extended = nib.Nifti1Image(SMALL, np.eye(4))
    extended.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"x" * 30))
    found["extension"] = extended.to_bytes()
    return found


def _of_nifti(data: bytes, random: Random) -> bytes:
    return of_fields(NIFTI_2 if data[:1] == b"\x1c" else NIFTI_1, "<>")(data, random)


def _gz(data: bytes, random: Random) -> bytes:
    """The header inside is changed; or what is around it; or zeros follow that weigh almost nothing."""
    import gzip

    try:
        inside = gzip.decompress(data)
    except Exception:
        return of_bytes(data, random)
    inside = _of_nifti(inside, random)
    if random.random() < 0.1:
        inside += bytes(random.choice((1, 1000, 2**24)))
    result = gzip.compress(inside, 6, mtime=0)
    return random.choice((result, result, result, result + result, of_bytes(result, random), gzip.compress(result, mtime=0)))


def _gzs(folder: Path) -> dict[str, bytes]:
    import gzip

    return {name: gzip.compress(data, mtime=0) for name, data in _niftis(folder).items()}


# NRRD and MetaImage, which can name other files ---------------------------------------------------------------------------------

NRRD_WORDS = (
    *(b"data file: ../outside/canary.raw", b"data file: /etc/passwd", b"datafile: LIST\n../outside/canary.raw", b"data file: LIST 2"),
    *(b"data file: ../outside/canary.%03d 0 3 1", b"line skip: 99999999", b"byte skip: -1", b"byte skip: 99999999999", b"encoding: gzip"),
    *(
        b"encoding: raw",
        b"encoding: ascii",
        b"encoding: hex",
        b"encoding: bzip2",
        b"type: block",
        b"block size: 99999999999",
        b"type: double",
    ),
    *(b"dimension: 16", b"dimension: 4", b"sizes: 1000000 1000000 1000000", b"space: left-posterior-superior", b"space dimension: 9"),
    *(
        b"space directions: (nan,0,0) (0,inf,0) (0,0,1)",
        b"space directions: none (1,0) (0,1)",
        b"kinds: vector domain domain",
        b"endian: big",
    ),
    *(b"space origin: (1e300,nan,0)", b"spacings: 0 -1 nan", b"centerings: cell", b"key:=" + b"v" * 3000, b"data file: case_0000.nrrd"),
    b"data file: ../../../../../../../proc/self/environ",
)


def _of_itk(ending: str, folder: Path) -> dict[str, bytes]:
    import SimpleITK as sitk

    found = {}
    for name, array in (("plain", SMALL), ("bytes", SMALL.astype(np.uint8)), ("flat", SMALL[0].astype(np.float32))):
        for packed in (True, False):
            image = sitk.GetImageFromArray(array)
            image.SetSpacing([1.5] * image.GetDimension())
            path = folder / f"seed{ending}"
            sitk.WriteImage(image, str(path), packed)
            found[f"{name}-{'packed' if packed else 'raw'}"] = path.read_bytes()
    return found


def _nrrds(folder: Path) -> dict[str, bytes]:
    head = b"NRRD0005\ntype: uint8\ndimension: 3\nsizes: 8 8 8\nencoding: raw\n"
    (folder / "voxels.raw").write_bytes(bytes(512))
    return {
        **_of_itk(".nrrd", folder),
        "detached": head + b"data file: voxels.raw\n\n",
        "ascii": head.replace(b"raw", b"ascii") + b"\n1 2 3",
    }


META_WORDS = (
    *(
        b"ElementDataFile = ../outside/canary.raw",
        b"ElementDataFile = /etc/passwd",
        b"ElementDataFile = LIST",
        b"ElementDataFile = LIST 2D",
    ),
    *(b"ElementDataFile = LOCAL", b"ElementDataFile = ../outside/canary.%03d 0 3 1", b"HeaderSize = -1", b"HeaderSize = 99999999999"),
    *(b"CompressedData = True", b"CompressedDataSize = 99999999999", b"CompressedDataSize = -5", b"ElementNumberOfChannels = 1000000"),
    *(b"DimSize = 1000000 1000000 1000000", b"NDims = 20", b"NDims = 4", b"NDims = 0", b"NDims = -1", b"BinaryData = False"),
    *(b"ElementType = MET_DOUBLE", b"ElementType = MET_STRING", b"ElementType = MET_OTHER", b"ElementByteOrderMSB = True"),
    *(
        b"TransformMatrix = nan 0 0 0 inf 0 0 0 1",
        b"Offset = 1e300 nan 0",
        b"ElementSpacing = 0 -1 nan",
        b"ElementToIntensityFunctionSlope = nan",
    ),
    *(
        b"ElementDataFile = ../../../../../../proc/self/environ",
        b"Comment = " + b"x" * 3000,
        b"ObjectType = Scene",
        b"ElementDataFile = case_0000.mhd",
    ),
)


def _mhds(folder: Path) -> dict[str, bytes]:
    (folder / "voxels.raw").write_bytes(bytes(range(60)))
    head = b"ObjectType = Image\nNDims = 3\nDimSize = 5 4 3\nElementType = MET_UCHAR\nElementSpacing = 1 1 1\n"
    return {"beside": head + b"ElementDataFile = voxels.raw\n", "list": head + b"ElementDataFile = LIST 3D\nvoxels.raw\n"}


# TIFF ---------------------------------------------------------------------------------------------------------------------------

OME = (
    '<?xml version="1.0"?>{0}<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0"><Pixels ID="Pixels:0" '
    'DimensionOrder="XYCZT" Type="uint8" SizeX="5" SizeY="4" SizeZ="3" SizeC="1" SizeT="1" PhysicalSizeX="0.5" PhysicalSizeY="0.5" '
    'PhysicalSizeZ="2"><TiffData IFD="0" PlaneCount="3">{1}</TiffData></Pixels></Image></OME>'
)
LAUGHS = "<!DOCTYPE x [" + '<!ENTITY a0 "ha">' + "".join(f'<!ENTITY a{n + 1} "{f"&a{n};" * 20}">' for n in range(9)) + "]>"
OUTSIDE = '<UUID FileName="../outside/canary.tif">urn:uuid:1</UUID>'
XML_WORDS = (
    LAUGHS,
    '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>',
    OUTSIDE,
    "&a9;",
    "&e;",
    'SizeX="999999999"',
    'SizeC="99999"',
    'IFD="-1"',
    'PlaneCount="999999999"',
    'PhysicalSizeX="nan"',
    'PhysicalSizeX="1e400"',
    'PhysicalSizeZUnit="m"',
    'Type="complex"',
    'DimensionOrder="XXXXX"',
    "<Image>" * 500,
)


def _tiffs(folder: Path) -> dict[str, bytes]:
    import tifffile

    def made(array: Any, **more: Any) -> bytes:
        stream = io.BytesIO()
        tifffile.imwrite(stream, array, **{"photometric": "minisblack", **more})
        return stream.getvalue()

    volume = SMALL.astype(np.uint8)
    with tempfile.TemporaryDirectory() as other:
        path = Path(other) / "x.tif"
        write_labels(path, volume, _grid(), None)
        own = path.read_bytes()
    laughing = OME.format(LAUGHS, "").replace('PhysicalSizeX="0.5"', 'PhysicalSizeX="&a9;"')
    return {
        "plane": made(volume[0]),
        "stack": made(volume),
        "big": made(volume, bigtiff=True),
        "own": own,
        "imagej": made(volume, imagej=True, metadata={"spacing": 2, "unit": "um", "axes": "ZYX"}, resolution=(2, 2)),
        "colours": made(np.ones((4, 5, 3), np.uint8), photometric="rgb"),
        "tiles": made(np.ones((32, 32), np.uint16), tile=(16, 16)),
        "deflated": made(volume, compression="zlib", predictor=2),
        "floats": made(SMALL.astype(np.float32)),
        "ome": made(volume, description=OME.format("", ""), metadata=None),
        "companion": made(volume, description=OME.format("", OUTSIDE), metadata=None),
        "laughs": made(volume, description=laughing, metadata=None),
        "external": made(volume, description=OME.format(XML_WORDS[1], "&e;"), metadata=None),
    }


def _grid() -> Any:
    from autounet.geometry import Grid

    return Grid(shape_zyx=(3, 4, 5), spacing_mm_zyx=(2.0, 1.0, 1.0))


def _of_tiff(data: bytes, random: Random) -> bytes:
    """An entry of a page's table is changed (tag, type, count or value), the page after it, or the text in it."""
    content = bytearray(data)
    if b"<OME" in data and random.random() < 0.5:
        at = data.find(b"<OME")
        word = random.choice(XML_WORDS).encode()
        at = random.choice((at, max(at, data.find(b" Size", at + random.randrange(300))), at + random.randrange(400)))
        content[at : at + (len(word) if random.random() < 0.5 else 0)] = word
        return bytes(content)
    if len(content) < 16:
        return of_bytes(data, random)
    order = "<" if content[:2] == b"II" else ">"
    big = content[2:4] in (b"+\0", b"\0+")
    try:
        (offset,) = struct.unpack_from(order + ("Q" if big else "I"), content, 8 if big else 4)
        for _ in range(random.randrange(3)):
            (count,) = struct.unpack_from(order + ("Q" if big else "H"), content, offset)
            (following,) = struct.unpack_from(order + ("Q" if big else "I"), content, offset + (8 + 20 * count if big else 2 + 12 * count))
            offset = following or offset
        (count,) = struct.unpack_from(order + ("Q" if big else "H"), content, offset)
        entry = offset + (8 + 20 * random.randrange(count + 1) if big else 2 + 12 * random.randrange(count + 1))
        places = ((0, 2), (2, 2), (4, 8), (12, 8)) if big else ((0, 2), (2, 2), (4, 4), (8, 4), (0, 4))
        for place, width in random.sample(places, random.choice((1, 1, 2))):
            number = random.choice(
                (offset, 0, 1, 2, 3, 4, 5, 7, 12, 254, 256, 257, 258, 259, 262, 277, 278, 339, 2**15, 2**31, 2**32 - 1, 65000)
            )
            content[entry + place : entry + place + width] = number.to_bytes(width, "little" if order == "<" else "big")
    except (struct.error, ValueError, OverflowError):
        return of_bytes(data, random)
    return bytes(content)


# Planar images ------------------------------------------------------------------------------------------------------------------


def _planar(kind: str, folder: Path) -> dict[str, bytes]:
    from PIL import Image

    rng = np.random.default_rng(0)
    grey = rng.integers(0, 255, (6, 7), np.uint8)
    modes: dict[str, Any] = {"grey": Image.fromarray(grey), "colours": Image.fromarray(rng.integers(0, 255, (6, 7, 3), np.uint8))}
    if kind != "JPEG":
        modes["palette"] = Image.fromarray(grey % 4).convert("P")
        modes["bits"] = Image.fromarray(grey > 99)
    if kind == "PNG":
        modes["wide"] = Image.fromarray(grey.astype(np.uint16) * 200)
        modes["clear"] = Image.fromarray(rng.integers(0, 255, (6, 7, 4), np.uint8))
    found = {}
    for name, image in modes.items():
        stream = io.BytesIO()
        image.save(stream, format=kind)
        found[name] = stream.getvalue()
    if kind == "JPEG":
        stream = io.BytesIO()
        modes["colours"].save(stream, format=kind, progressive=True)
        found["progressive"] = stream.getvalue()
    return found


def _of_png(data: bytes, random: Random) -> bytes:
    """A chunk is changed and gets the check sum that belongs to it; chunks are doubled, left out, or lie about their length."""
    chunks, at = [], 8
    while at + 12 <= len(data) and len(chunks) < 100:
        (length,) = struct.unpack_from(">I", data, at)
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    if not chunks:
        return of_bytes(data, random)
    index = random.randrange(len(chunks))
    kind, content = chunks[index]
    match random.randrange(6):
        case 0:
            chunks.insert(random.randrange(len(chunks) + 1), chunks[index])
        case 1:
            del chunks[index]
        case 2:
            text = random.choice((b"zTXt", b"iTXt", b"tEXt", b"iCCP", b"eXIf", b"acTL", b"fcTL", b"fdAT", b"tRNS", b"PLTE", b"sBIT"))
            bomb = zlib.compress(bytes(10**6)) if random.random() < 0.3 else bytes(random.randrange(40))
            chunks.insert(random.randrange(1, len(chunks) + 1), (text, b"x\0\0" + bomb))
        case 3 if kind == b"IHDR" and len(content) == 13:
            sizes = [random.choice((7, 0, 1, 50_000, 2**31 - 1, 2**32 - 1)), random.choice((6, 0, 1, 50_000, 2**31 - 1))]
            content = struct.pack(">II", *sizes) + bytes(
                (random.choice((1, 2, 4, 8, 16)), random.choice((0, 2, 3, 4, 6)), 0, 0, random.randrange(2))
            )
            chunks[index] = (kind, content)
        case 4 if kind == b"IDAT":
            chunks[index] = (kind, zlib.compress(of_bytes(bytes(random.choice((10, 100, 10**6))), random)))
        case _:
            chunks[index] = (kind, of_bytes(content, random))
    parts = [struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks]
    return data[:8] + b"".join(parts)


BMP = [(2, "I"), (10, "I"), (14, "I"), (18, "i"), (22, "i"), (26, "H"), (28, "H"), (30, "I"), (34, "I"), (46, "I"), (50, "I"), (54, "I")]


def _of_jpeg(data: bytes, random: Random) -> bytes:
    """The sizes in a frame's header, or the length of a segment."""
    content = bytearray(data)
    frame = max(data.find(b"\xff\xc0"), data.find(b"\xff\xc2"))
    if frame >= 0 and len(data) > frame + 12 and random.random() < 0.5:
        content[frame + 5 : frame + 9] = struct.pack(">HH", random.choice((6, 0, 65535, 30000)), random.choice((7, 0, 65535, 30000)))
        return bytes(content)
    marks = [at for at in range(len(data) - 4) if data[at] == 0xFF and data[at + 1] >= 0xC0]
    if marks:
        at = random.choice(marks)
        content[at + 2 : at + 4] = random.choice((0, 1, 2, 3, 8, 65535)).to_bytes(2, "big")
    return bytes(content)


TARGETS = (
    images(".nii", _of_nifti, _niftis, "NIfTI-1 and NIfTI-2 headers, voxels, extensions"),
    images(".nii.gz", _gz, _gzs, "the same, deflated: bombs, damaged streams, gz in gz"),
    images(".nrrd", of_lines(NRRD_WORDS, end=b"\n\n"), _nrrds, "NRRD headers, also such that name other files"),
    images(".mha", of_lines(META_WORDS), partial(_of_itk, ".mha"), "MetaImage in one file"),
    images(".mhd", of_lines(META_WORDS), _mhds, "MetaImage headers that name the file of their voxels"),
    images(".tif", _of_tiff, _tiffs, "TIFF pages and tags, OME-XML, ImageJ"),
    images(".png", _of_png, partial(_planar, "PNG"), "PNG chunks with right check sums"),
    images(".jpg", _of_jpeg, partial(_planar, "JPEG"), "JPEG segments"),
    images(".bmp", of_fields(BMP), partial(_planar, "BMP"), "BMP headers"),
)
