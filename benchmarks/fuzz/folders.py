"""Targets: OME-Zarr, whose metadata and chunks are files of a folder, and tables of cases, which name files."""

import io
import shutil
import zipfile
from contextlib import suppress
from pathlib import Path, PurePosixPath
from random import Random

import numpy as np

from autounet.dataset_table import read_table
from autounet.errors import AutounetError
from autounet.images import read_image, read_labels, read_size
from benchmarks.fuzz.dicom import zipped
from benchmarks.fuzz.mutate import TEXTS, Mutate, either, of_bytes, of_json, of_zip
from benchmarks.fuzz.target import Target, check_canary

# OME-Zarr ----------------------------------------------------------------------------------------------------------------


def _zarrs(folder: Path) -> dict[str, bytes]:
    import zarr

    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
    datasets = [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [2.0, 0.5, 0.25]}]}]
    described = {"axes": axes, "datasets": datasets}
    found = {}
    for kind in (2, 3):
        place = folder / f"seed{kind}.ome.zarr"
        group = zarr.open_group(place, mode="w", zarr_format=kind)
        group.create_array("0", data=np.arange(60, dtype=np.uint16).reshape(3, 4, 5), chunks=(2, 4, 5))
        if kind == 3:
            group.attrs["ome"] = {"version": "0.5", "multiscales": [described]}
        else:
            group.attrs["multiscales"] = [{"version": "0.4", **described}]
        found[f"version{kind}"] = zipped(
            {file.relative_to(place).as_posix(): file.read_bytes() for file in place.rglob("*") if file.is_file()}
        )
    return found


def _of_member(name: str) -> Mutate:
    return of_json if PurePosixPath(name).name in (".zarray", ".zattrs", ".zgroup", ".zmetadata", "zarr.json") else of_bytes


def _read_zarr(data: bytes, folder: Path) -> None:
    """The input is a zip of the folder's files, for there has to be one; unpacked, it is an image of its own each time."""
    place = folder / "x.ome.zarr"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    with suppress(Exception), zipfile.ZipFile(io.BytesIO(data)) as archive:  # of what cannot be unpacked the reader gets what there is
        members = [(PurePosixPath(entry.filename), archive.read(entry)) for entry in archive.infolist()[:40] if entry.file_size < 2**16]
        for name, content in members:
            if not name.is_absolute() and ".." not in name.parts:
                (place / name).parent.mkdir(parents=True, exist_ok=True)
                (place / name).write_bytes(content)
    for way in (read_size, read_image, read_labels):
        try:
            found = way(place)
        except AutounetError:
            continue
        if way is not read_size:
            check_canary(np.ascontiguousarray(found[0]).tobytes())


# Tables ------------------------------------------------------------------------------------------------------------------

HEADINGS = ("image", "image_0", "image_1", "label", "id", "patient", "fold", "annotated", "images", "T1", "", "image_99999999999")


def _tables(folder: Path) -> dict[str, bytes]:
    for name in ("a.nii.gz", "b.nii.gz", "la.nii.gz", "lb.nii.gz"):
        (folder / name).write_bytes(b"")
    rows = "image,label,id,patient,fold,annotated\na.nii.gz,la.nii.gz,one,p1,0,liver\nb.nii.gz,lb.nii.gz,two,p2,1,\n"
    objects = (
        '[{"image": "a.nii.gz", "label": "la.nii.gz", "id": "one"}, {"images": ["b.nii.gz"], "label": "lb.nii.gz", "annotated": ["liver"]}]'
    )
    return {"csv": b"c" + rows.encode(), "semicolons": b"c\xef\xbb\xbf" + rows.replace(",", ";").encode(), "json": b"j" + objects.encode()}


def _of_table(data: bytes, random: Random) -> bytes:
    kind, rest = data[:1], data[1:]
    if kind == b"j":
        return kind + of_json(rest, random)
    lines = [line.split(b",") for line in rest.split(b"\n")]
    row = random.choice(lines)
    match random.randrange(5):
        case 0:
            row[random.randrange(len(row))] = random.choice(HEADINGS).encode()
        case 1 | 2:
            row[random.randrange(len(row))] = random.choice(
                (*TEXTS, '"', '"a\nb', "-1", "1e9", "99999999999999999999", "liver,liver")
            ).encode("utf-8", "surrogatepass")
        case 3:
            lines += [row] * random.choice((1, 2, 500))
        case _:
            row += row * random.choice((1, 30))
    return kind + b"\n".join(b",".join(line) for line in lines)


def _read_table(data: bytes, folder: Path) -> None:
    path = folder / ("cases.json" if data[:1] == b"j" else "cases.csv")
    path.write_bytes(data[1:])
    for labelled in (True, False):
        try:
            cases = read_table(path, ("T1",), labelled)
        except AutounetError:
            continue
        for case in cases:
            assert case.id
            assert Path(case.id).name == case.id, f"a case whose name leads elsewhere: {case.id!r}"


TARGETS = (
    Target("ome_zarr", "OME-Zarr folders: metadata, and chunks of both versions", _zarrs, _read_zarr, of_zip(_of_member)),
    Target(
        "table",
        "tables of cases, CSV and JSON",
        _tables,
        _read_table,
        either(_of_table, _of_table, of_bytes),
        may_name=("/etc/passwd", ".."),  # they may name images anywhere
    ),
)
