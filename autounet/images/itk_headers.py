"""The headers of NRRD and MetaImage files, looked at before ITK does.

Its readers crash on some that are malformed, and follow the names of files to anywhere.

What is refused here is what the formats' own definitions do not allow (https://teem.sourceforge.net/nrrd/format.html,
https://docs.itk.org/en/latest/learn/metaio.html), and voxels that lie in files elsewhere.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from autounet.errors import ImageError
from autounet.images.stored import damaged

MOST_HEADER_BYTES = 2**20
MOST_AXES = 5
"""Three of space, one of components, one of time."""
LONGEST_FIELD = 1000
"""Characters of a line with a field of the format; real ones have a hundred."""
LONGEST_NOTE = 2**15
"""Characters of a line with something else: segmentation programs keep much there."""

NRRD_TYPES = re.compile(
    r"(?:unsigned |signed )?(?:char|short|short int|int|long long|long long int)|uchar|ushort|uint|longlong|ulonglong|float|double"
    r"|u?int(?:8|16|32|64)(?:_t)?"
)
NRRD_ENCODINGS = ("raw", "gz", "gzip", "bz2", "bzip2", "txt", "text", "ascii", "hex")
NRRD_TEXTS = ("content", "sampleunits", "number", "min", "max", "oldmin", "oldmax", "space", "blocksize")
NRRD_AXES = {
    **dict.fromkeys(("spacings", "thicknesses", "axismins", "axismaxs"), "number"),
    **dict.fromkeys(("kinds", "centers", "centerings"), "word"),
    **dict.fromkeys(("labels", "units", "spaceunits"), "text"),
}
"""Fields with one value per axis, and of which kind; ``spaceunits`` and ``spaceorigin`` count the space's axes."""

_FLOAT = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|[+-]?(?:nan|NaN|NAN|inf|Inf|INF)"
_VECTOR = re.compile(rf"\(\s*(?:(?:{_FLOAT})\s*,\s*){{0,{MOST_AXES - 1}}}(?:{_FLOAT})\s*\)|none")


class _Fault(Exception):
    """What is wrong with a header, in words."""


def check_header(path: Path) -> int:
    """Refuses a header that ITK should not be given.

    Args:
        path: A .nrrd, .nhdr, .mha or .mhd file.

    Returns:
        Bytes of the files that hold the voxels.

    Raises:
        ImageError: It is malformed, or its voxels are in a file that lies elsewhere.
    """
    check = _check_nrrd if path.suffix.lower() in (".nrrd", ".nhdr") else _check_meta
    try:
        with path.open("rb") as stream:
            start = stream.read(MOST_HEADER_BYTES)
    except OSError as error:
        raise damaged(path, error) from error
    try:
        return sum(file.stat().st_size for file in check(start, path))
    except OSError as error:
        raise damaged(path, error) from error
    except _Fault as fault:
        raise damaged(path, f"header: {fault}") from None


def _check_nrrd(start: bytes, path: Path) -> list[Path]:
    if re.match(rb"NRRD000[1-5]\r?\n", start) is None:
        raise _Fault("no NRRD0001 to NRRD0005 at the start")
    head = re.split(rb"\r?\n\r?\n", start, maxsplit=1)[0]  # a header alone may end without an empty line
    fields: dict[str, str] = {}
    for line in head.decode("latin-1").split("\n")[1:]:
        line = line.rstrip("\r")
        note = line.startswith("#") or re.match(r"[^:]*:=", line) is not None
        if len(line) > (LONGEST_NOTE if note else LONGEST_FIELD) or "\0" in line:
            raise _Fault(f"a line of {len(line)} characters")
        if note or not line:
            continue
        name, mark, value = line.partition(": ")
        name = re.sub(r"[ _-]", "", name).lower()
        if not mark or name in fields:
            raise _Fault(f"the line {line[:60]!r}")
        fields[name] = value.strip()
    _check_nrrd_fields(fields)
    if "datafile" not in fields:
        return [path]
    return [_beside(path, fields["datafile"])]


def _check_nrrd_fields(fields: Mapping[str, str]) -> None:
    for name in ("type", "dimension", "sizes", "encoding"):
        if name not in fields:
            raise _Fault(f"no '{name}'")
    axes = _whole(fields["dimension"], 1, MOST_AXES, "dimension")
    for size in _counted(fields["sizes"].split(), axes, "sizes"):
        _whole(size, 1, 2**40, "sizes")
    space = _whole(fields["spacedimension"], 1, MOST_AXES, "space dimension") if "spacedimension" in fields else MOST_AXES
    for name, value in fields.items():
        match name:
            case "type" if NRRD_TYPES.fullmatch(value.lower()) is None:
                raise _Fault(f"the type {value[:60]!r}")
            case "encoding" if value.lower() not in NRRD_ENCODINGS:
                raise _Fault(f"the encoding {value[:60]!r}")
            case "endian" if value.lower() not in ("little", "big"):
                raise _Fault(f"the byte order {value[:60]!r}")
            case "spacedirections" | "spaceorigin" | "measurementframe":
                vectors = _VECTOR.findall(value)
                if (
                    _VECTOR.sub("", value).strip()
                    or not 1 <= len(vectors) <= MOST_AXES
                    or (name == "spacedirections" and len(vectors) != axes)
                ):
                    raise _Fault(f"{name} {value[:60]!r}")
                if len({vector.count(",") for vector in vectors if vector != "none"}) > 1:
                    raise _Fault(f"{name} {value[:60]!r}")
            case _ if name in NRRD_AXES:
                _check_per_axis(name, value, min(axes, space) if name == "spaceunits" else axes)
            case "byteskip" | "lineskip":
                _whole(value, -1 if name == "byteskip" else 0, 2**40 if "datafile" in fields else 0, name)
            case "type" | "dimension" | "sizes" | "encoding" | "endian" | "spacedimension" | "datafile":
                pass
            case _ if name not in NRRD_TEXTS:
                raise _Fault(f"a field {name[:60]!r}")


def _check_per_axis(name: str, value: str, axes: int) -> None:
    kind = NRRD_AXES[name]
    if kind == "text":
        if re.fullmatch(r'(?:"[^"\\]*"\s*)*', value) is None:
            raise _Fault(f"{name} {value[:60]!r}")
        return
    for entry in _counted(value.split(), axes, name):
        if re.fullmatch(_FLOAT if kind == "number" else r"[\w?*-]{1,60}|\?\?\?", entry) is None:
            raise _Fault(f"{name} {value[:60]!r}")


META_NUMBERS: dict[str, Callable[[int], int]] = {
    **dict.fromkeys(("Offset", "Position", "Origin", "CenterOfRotation", "ElementSpacing", "ElementSize"), lambda axes: axes),
    **dict.fromkeys(("TransformMatrix", "Rotation", "Orientation"), lambda axes: axes * axes),
    **dict.fromkeys(
        ("ElementMin", "ElementMax", "ElementToIntensityFunctionSlope", "ElementToIntensityFunctionOffset", "ParentID", "ID"), lambda _: 1
    ),
    "Color": lambda _: 4,
}
"""Fields of numbers, and how many there are for so many axes."""
META_WHOLE = {
    "HeaderSize": (-1, 2**40), "CompressedDataSize": (0, 2**40), "ElementNumberOfChannels": (1, 10_000), "CompressionLevel": (0, 9),
}  # fmt: skip
META_TYPES = re.compile(r"MET_(?:U?CHAR|U?SHORT|U?INT|U?LONG|U?LONG_LONG|FLOAT|DOUBLE)(?:_ARRAY)?")
META_FLAGS = ("BinaryData", "BinaryDataByteOrderMSB", "ElementByteOrderMSB", "CompressedData")


def _check_meta(start: bytes, path: Path) -> list[Path]:
    fields: dict[str, str] = {}
    rest = start
    while "ElementDataFile" not in fields:
        line, found, rest = rest.partition(b"\n")
        text = line.decode("latin-1").strip()
        if not found and (len(start) >= MOST_HEADER_BYTES or not text):
            raise _Fault("no 'ElementDataFile'")
        if not text:
            continue
        name, mark, value = (
            (part.strip() for part in re.split(r"\s*([=:])\s*", text, maxsplit=1)) if re.search("[=:]", text) else (text, "", "")
        )
        if not mark or re.fullmatch(r"[A-Za-z0-9_.-]{1,100}", name) is None or name in fields or not text.isprintable():
            raise _Fault(f"the line {text[:60]!r}")
        if len(text) > LONGEST_FIELD:
            raise _Fault(f"a line of {len(text)} characters")
        fields[name] = value
    if fields.get("ObjectType", "Image") != "Image":
        raise _Fault(f"an object of the type {fields['ObjectType'][:60]!r}")
    for name in ("NDims", "DimSize", "ElementType"):
        if name not in fields:
            raise _Fault(f"no '{name}'")
    axes = _whole(fields["NDims"], 1, MOST_AXES, "NDims")
    for size in _counted(fields["DimSize"].split(), axes, "DimSize"):
        _whole(size, 1, 2**40, "DimSize")
    if META_TYPES.fullmatch(fields["ElementType"]) is None:
        raise _Fault(f"the type {fields['ElementType'][:60]!r}")
    for name, many in META_NUMBERS.items():
        for entry in _counted(fields[name].split(), many(axes), name) if name in fields else ():
            if re.fullmatch(_FLOAT, entry) is None:
                raise _Fault(f"{name} {fields[name][:60]!r}")
    for name, (least, most) in META_WHOLE.items():
        if name in fields:
            _whole(fields[name], least, most, name)
    for name in META_FLAGS:
        if fields.get(name, "True").lower() not in ("true", "false", "1", "0"):
            raise _Fault(f"{name} {fields[name][:60]!r}")
    named = fields["ElementDataFile"]
    if named.upper() == "LOCAL":
        return [path]
    if re.fullmatch(r"LIST( 2D| 2)?", named.upper()) is None:
        return [_beside(path, named)]
    names = rest.decode("latin-1").split("\n")
    return [_beside(path, name.strip()) for name in names if name.strip()]  # one for each slice


def _beside(path: Path, named: str) -> Path:
    """A file that a header names for its voxels: it must lie in the same folder or below it, and be a plain one."""
    place = PurePosixPath(named.replace("\\", "/"))
    if not named or re.match(r"list\b", named.lower()) or "%" in named or place.is_absolute() or ".." in place.parts or ":" in named:
        raise ImageError(
            f"{path}: its voxels are in files that lie elsewhere, or are named by a pattern",
            found=ascii(named[:100]),
            expected="the name of a file in the same folder",
            remedy="put the files together, or save the image again as one file",
        )
    if not (path.parent / place).is_file():  # also a pipe, which ITK would wait for
        raise damaged(path, f"no file '{named[:100]}', which holds the voxels")
    return path.parent / place


def _whole(text: str, least: int, most: int, name: str) -> int:
    if re.fullmatch(r"[+-]?[0-9]{1,15}", text) is None or not least <= int(text) <= most:
        raise _Fault(f"{name} {text[:60]!r}")
    return int(text)


def _counted(entries: Sequence[str], count: int, name: str) -> Sequence[str]:
    if len(entries) != count:
        raise _Fault(f"{len(entries)} values of {name} for {count}")
    return entries
