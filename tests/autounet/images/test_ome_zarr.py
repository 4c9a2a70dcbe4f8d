"""OME-Zarr folders, written by the package zarr: axes, units, transformations, label maps, and what is refused before it is unpacked."""

import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autounet.errors import ImageError
from autounet.geometry import Grid
from autounet.image_names import image_files, split_ending
from autounet.images import read_image, read_labels, read_size

zarr = pytest.importorskip("zarr")

VOLUME = np.arange(2 * 3 * 4 * 5, dtype=np.uint16).reshape(2, 3, 4, 5)
"""Two channels of 3 slices."""
MICROMETRES = {"z": 2.0, "y": 0.5, "x": 0.25}


def axes_of(names: str, unit: str | None = "micrometer") -> list[dict[str, str]]:
    kinds = {"t": "time", "c": "channel"}
    return [{"name": name, "type": kinds.get(name, "space"), **({"unit": unit} if unit and name in "zyx" else {})} for name in names]


def write(
    path: Path,
    values: np.ndarray,
    axes: str,
    version: str = "0.5",
    *,
    unit: str | None = "micrometer",
    steps: list[dict[str, Any]] | None = None,
    whole: list[dict[str, Any]] | None = None,
    **array: Any,
) -> Path:
    """A multiscale image of two levels; only the first is right."""
    group = zarr.open_group(path, mode="w", zarr_format=3 if version == "0.5" else 2)
    group.create_array("0", data=values, **array)
    group.create_array("1", data=values[..., ::2, ::2])
    scale = [MICROMETRES.get(name, 1.0) for name in axes]
    first = [{"type": "scale", "scale": scale}] if steps is None else steps
    described: dict[str, Any] = {
        "axes": axes_of(axes, unit),
        "datasets": [{"path": "0", "coordinateTransformations": first}, {"path": "1", "coordinateTransformations": first}],
    }
    if whole is not None:
        described["coordinateTransformations"] = whole
    if version == "0.5":
        group.attrs["ome"] = {"version": "0.5", "multiscales": [described]}
    else:
        group.attrs["multiscales"] = [{"version": version, **described}]
    return path


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("axes", ["czyx", "tczyx", "zcyx", "xyzc"])
def test_axes_come_in_any_order_and_channels_first(tmp_path: Path, version: str, axes: str) -> None:
    stored = VOLUME.transpose(["czyx".index(name) for name in axes if name != "t"])
    path = write(tmp_path / "a.ome.zarr", stored[None] if axes[0] == "t" else stored, axes, version)
    image, grid = read_image(path)
    np.testing.assert_array_equal(image, VOLUME)
    # 2, 0.5 and 0.25 micrometres
    assert grid == Grid(shape_zyx=(3, 4, 5), spacing_mm_zyx=(0.002, 0.0005, 0.00025))
    assert read_size(path) == (2, grid)


@pytest.mark.parametrize("dtype", ["u1", "i1", ">u2", "i4", "u8", "f2", "f4", "f8", "bool"])
@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_every_type_of_number(tmp_path: Path, version: str, dtype: str) -> None:
    stored = (VOLUME[0] % 100).astype(dtype)
    path = write(tmp_path / "a.zarr", stored, "zyx", version, chunks=(2, 3, 4))
    np.testing.assert_array_equal(read_image(path)[0][0], stored.astype(np.float32))
    np.testing.assert_array_equal(read_labels(path)[0], stored.astype(np.int64))


def test_a_plane_is_planar_and_a_stack_of_one_is_not(tmp_path: Path) -> None:
    _, grid = read_image(write(tmp_path / "a.zarr", VOLUME[0, 0], "yx"))
    assert grid == Grid(ndim=2, shape_zyx=(1, 4, 5), spacing_mm_zyx=(1.0, 0.0005, 0.00025))
    assert read_image(write(tmp_path / "b.zarr", VOLUME[0, :1], "zyx"))[1].ndim == 3
    image, grid = read_image(write(tmp_path / "c.zarr", VOLUME[:, 0], "cyx"))
    assert (image.shape, grid.ndim) == ((2, 1, 4, 5), 2)


def test_transformations_are_applied_in_their_order(tmp_path: Path) -> None:
    steps = [{"type": "scale", "scale": [2.0, 3.0, 4.0]}, {"type": "translation", "translation": [10.0, 20.0, 30.0]}]
    whole = [{"type": "identity"}, {"type": "scale", "scale": [0.5, 0.5, 0.5]}]
    _, grid = read_image(write(tmp_path / "a.zarr", VOLUME[0], "zyx", unit="millimeter", steps=steps, whole=whole))
    assert grid.spacing_mm_zyx == (1.0, 1.5, 2.0)
    # z = (index * 2 + 10) * 0.5, and so on; the grid's origin is in order x, y, z.
    assert grid.origin_mm_xyz == (15.0, 10.0, 5.0)
    assert read_image(write(tmp_path / "b.zarr", VOLUME[0], "zyx", unit=None, steps=steps))[1].spacing_mm_zyx == (2.0, 3.0, 4.0)


def test_the_label_map_beside_an_image(tmp_path: Path) -> None:
    path = write(tmp_path / "a.ome.zarr", VOLUME, "czyx")
    labels = (VOLUME[0] % 3).astype(np.uint8)
    group = zarr.open_group(path / "labels", mode="w")
    group.attrs["ome"] = {"version": "0.5", "labels": ["nuclei"]}
    write(path / "labels" / "nuclei", labels, "zyx")
    np.testing.assert_array_equal(read_labels(path)[0], labels)
    np.testing.assert_array_equal(read_image(path)[0], VOLUME)
    assert read_labels(path)[1] == read_image(path)[1]
    group.attrs["ome"] = {"version": "0.5", "labels": ["nuclei", "cells"]}
    with pytest.raises(ImageError, match="holds several label maps: found nuclei, cells, expected one"):
        read_labels(path)
    # A folder of its own, without a group of labels, is the label map itself.
    np.testing.assert_array_equal(read_labels(write(tmp_path / "b.zarr", labels, "zyx"))[0], labels)


def test_names_of_folders(tmp_path: Path) -> None:
    for name in ("a_0000.ome.zarr", "b.zarr", "no_image"):
        (tmp_path / name).mkdir()
    assert [split_ending(path) for path in image_files(tmp_path)] == [("a_0000", ".ome.zarr"), ("b", ".zarr")]


def test_the_only_image_of_bioformats2raw(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    zarr.open_group(path, mode="w", zarr_format=2).attrs["bioformats2raw.layout"] = 3
    write(path / "0", VOLUME[0], "zyx", "0.4")
    np.testing.assert_array_equal(read_image(path)[0][0], VOLUME[0])
    write(path / "1", VOLUME[0], "zyx", "0.4")
    with pytest.raises(ImageError, match="holds several images"):
        read_image(path)


@pytest.mark.parametrize("shards", [None, (4, 4, 4)])
def test_shards_and_compression(tmp_path: Path, shards: tuple[int, ...] | None) -> None:
    values = np.random.default_rng(0).integers(0, 9, (6, 7, 8)).astype(np.int16)
    path = write(tmp_path / "a.zarr", values, "zyx", chunks=(2, 2, 2), shards=shards, compressors=zarr.codecs.BloscCodec())
    np.testing.assert_array_equal(read_image(path)[0][0], values)


def change(file: Path, **fields: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"shape": [100000, 100000, 100000]}, "claims 2,000,000,000,000,000 bytes"),
        ({"chunks": [10000, 10000, 10000]}, "chunks of 2,000,000,000,000 bytes"),
        ({"shape": [3, 4]}, "axis sizes"),
        ({"shape": [3, 4, 0]}, "axis sizes"),
        ({"shape": [3, 4, "x"]}, "no image that can be used"),
        ({"dtype": "|O"}, "voxels of this type cannot be used: found |O"),
        ({"dtype": "<c8"}, "voxels of this type cannot be used: found <c8"),
        ({"dtype": [["a", "<i2"]]}, "voxels of this type cannot be used"),
        ({"dtype": "nonsense"}, "no image that can be used"),
        ({"filters": [{"id": "pickle", "protocol": 5}]}, "packed in a way that is not allowed: found pickle"),
        ({"compressor": {"id": "pickle"}}, "packed in a way that is not allowed: found pickle"),
        ({"compressor": {}}, "no image that can be used: found metadata without 'id'"),
    ],
)
def test_an_array_is_judged_before_it_is_unpacked(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    path = write(tmp_path / "a.zarr", VOLUME[0], "zyx", "0.4")
    change(path / "0" / ".zarray", **fields)
    for read in (read_image, read_labels, read_size):
        with pytest.raises(ImageError, match=message.replace("|", r"\|")) as caught:
            read(path)
        assert str(path) in str(caught.value)


def test_codecs_of_version_3_are_judged_too(tmp_path: Path) -> None:
    path = write(tmp_path / "a.zarr", VOLUME[0], "zyx", chunks=(2, 2, 2), shards=(4, 4, 4))
    described = json.loads((path / "0" / "zarr.json").read_text())
    described["codecs"][0]["configuration"]["codecs"].append({"name": "numcodecs.pickle"})
    change(path / "0" / "zarr.json", codecs=described["codecs"])
    with pytest.raises(ImageError, match=r"not allowed: found numcodecs\.pickle"):
        read_image(path)


def multiscale(path: Path, **fields: Any) -> None:
    """Changes the description of the image."""
    known = json.loads((path / ".zattrs").read_text())
    known["multiscales"][0].update(fields)
    (path / ".zattrs").write_text(json.dumps(known))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"axes": axes_of("zyx", "parsec")}, "unit of axis z is not known: found parsec"),
        ({"axes": axes_of("cyxz")}, "3 axes in the array, expected 4"),
        ({"axes": axes_of("zzx")}, "an axis z, expected axes t, c, z, y, x, each once"),
        ({"axes": axes_of("tcz")}, "axes tcz, expected y and x at least"),
        ({"axes": None}, "no image that can be used"),
        ({"axes": axes_of("tyx")}, "holds a film: found 3 time points"),
        ({"datasets": []}, "no image that can be used"),
        ({"datasets": [{"path": "../../a.zarr/0"}]}, "metadata that point to ../../a.zarr/0"),
        ({"datasets": [{"path": "/etc"}]}, "metadata that point to /etc"),
        ({"datasets": [{"path": "7"}]}, "no array 7"),
        ({"coordinateTransformations": [{"type": "affine", "affine": []}]}, "a transformation of type affine"),
        ({"coordinateTransformations": [{"type": "scale", "path": "0/scale"}]}, "a transformation of type scale"),
        ({"coordinateTransformations": [{"type": "scale", "scale": [1, 2]}]}, "a scale of 2 numbers, expected 3"),
        ({"coordinateTransformations": [{"type": "scale", "scale": [1, 0, 1]}]}, "spacing is unusable"),
        ({"coordinateTransformations": [{"type": "scale", "scale": [1, float("nan"), 1]}]}, "spacing is unusable"),
    ],
)
def test_metadata_that_make_no_image(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    path = write(tmp_path / "a.zarr", VOLUME[0], "zyx", "0.4")
    multiscale(path, **fields)
    with pytest.raises(ImageError, match=message) as caught:
        read_image(path)
    assert str(path) in str(caught.value)
    assert "found" in str(caught.value)


def test_folders_that_are_something_else(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    with pytest.raises(ImageError, match="no such file"):
        read_image(path)
    path.mkdir()
    with pytest.raises(ImageError, match="no multiscale image"):
        read_image(path)
    zarr.save_array(path, VOLUME[0])
    with pytest.raises(ImageError, match="no multiscale image"):
        read_image(path)
    zarr.open_group(tmp_path / "plate.zarr", mode="w", zarr_format=2).attrs["plate"] = {}
    with pytest.raises(ImageError, match="holds a plate of images"):
        read_image(tmp_path / "plate.zarr")
    (tmp_path / "packed.zarr").write_bytes(b"PK\3\4")
    with pytest.raises(ImageError, match="is a file: expected a folder"):
        read_image(tmp_path / "packed.zarr")


@pytest.mark.parametrize(("version", "codec"), [*product(("0.4", "0.5"), ("default", "gzip", "blosc", "none")), ("0.5", "shards")])
def test_a_truncated_chunk_is_noticed_wherever_it_is_cut(tmp_path: Path, version: str, codec: str) -> None:
    old = version == "0.4"
    gzip = {"id": "gzip", "level": 1} if old else zarr.codecs.GzipCodec()
    blosc = {"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 1} if old else zarr.codecs.BloscCodec()
    chosen: dict[str, Any] = {"gzip": {"compressors": gzip}, "blosc": {"compressors": blosc}, "none": {"compressors": None}}.get(codec, {})
    if codec == "shards":
        chosen = {"chunks": (2, 2, 2), "shards": (4, 4, 6), "compressors": blosc}
    values = np.random.default_rng(0).integers(0, 1000, (3, 4, 5)).astype(np.uint16)
    path = write(tmp_path / "a.zarr", values, "zyx", version, **chosen)
    chunk = max(file for file in (path / "0").rglob("*") if file.is_file() and "json" not in file.name and file.name[0] != ".")
    whole = chunk.read_bytes()
    for kept in (0, 1, 15, 16, 40, len(whole) // 2, len(whole) - 7, len(whole) - 1):
        chunk.write_bytes(whole[:kept])
        with pytest.raises(ImageError, match="damaged"):
            read_image(path)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_damaged_metadata(tmp_path: Path, version: str) -> None:
    path = write(tmp_path / "a.zarr", VOLUME[0], "zyx", version)
    metadata = path / ("zarr.json" if version == "0.5" else ".zattrs")
    for content in ("{", "[]", "\xff", '{"attributes": []}', "[" * 100_000):
        metadata.write_text(content, encoding="latin-1")
        with pytest.raises(ImageError):
            read_image(path)


def test_without_the_package_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.zarr", VOLUME[0], "zyx")
    monkeypatch.setitem(__import__("sys").modules, "zarr", None)
    assert read_size(path)[1].shape_zyx == (3, 4, 5)
    with pytest.raises(ImageError, match=r"pip install 'autounet\[zarr\]'"):
        read_image(path)
