"""Formats in and out: generated images of every geometry, and real files, through the whole way of ``autounet predict``.

    python -m benchmarks.formats --examples 500
    python -m benchmarks.formats --data shared/data

Each cell of the tables is a format in and a format out. Images are written, and label maps read, by other libraries; a cell fails where
the object is not in its place of the world. Of a real file the network's threshold lies between two of its intensities, so that every
voxel of the label map is known. The exit code is 1 where a cell fails.
"""

import argparse
import logging
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt
import SimpleITK
import tifffile
from hypothesis import HealthCheck, Phase, given, seed, settings
from PIL import Image

from benchmarks.geometry import SAME_PLACE, VALUE, Example, assert_same_places, check, examples, places_in, predicted, threshold_model
from benchmarks.image_files import IMAGES, LABEL_MAPS, PAIRS, ImageFormat, Placed, common, read_itk, read_nifti
from benchmarks.measure import machine, show_table, write_json

AnyArray = npt.NDArray[Any]
WritePlane = Callable[[Path, AnyArray], None]
ReadPlane = Callable[[Path], AnyArray]
Cells = dict[str, dict[str, str]]
"""Format in → format out → what became of it."""


def generated(count: int, first_seed: int, resampled: bool) -> Cells:
    """About ``count`` examples, the same number for each pair of formats."""
    each = -(-count // len(PAIRS))
    cells: Cells = {}
    for image_format, label_format in PAIRS:
        cells.setdefault(image_format, {})[label_format] = _cell((image_format, label_format), each, first_seed, resampled)
    return cells


def _cell(formats: tuple[str, str], count: int, first_seed: int, resampled: bool) -> str:
    done = 0

    # No shrinking: the example that fails is told as it is, and the next cell is tried.
    @seed(first_seed)
    @settings(max_examples=count, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(example=examples((formats,), resampled))
    def run(example: Example) -> None:
        nonlocal done
        with tempfile.TemporaryDirectory() as folder:
            try:
                check(example, Path(folder))
            except AssertionError as error:
                raise AssertionError(f"{error} in {example}") from error
        done += 1

    try:
        run()
    except Exception as error:
        return f"FAILED: {error}"
    return str(done)


@dataclass(frozen=True, slots=True)
class Source:
    """A real image as it is on disk."""

    name: str
    path: Path
    nifti: Placed
    """As read by nibabel where it is NIfTI, to which label maps in NIfTI are compared: the other library may prefer another of a
    header's two transforms."""
    itk: Placed
    """As read by SimpleITK."""
    channels: int = 1
    of: str | None = None
    """Its format, where there are label maps that belong to that one alone."""


def volumes(data: Path) -> Iterator[Source]:
    """The real volumes below a folder."""
    for name in ("CT_pitch", "spmMotor"):
        path = data / "volumes" / f"{name}.nii.gz"
        yield Source(name, path, read_nifti(path), read_itk(path))
    heart = data / "Dataset102_Cardiac" / "imagesTr" / "patient001_frame01_0000.nii.gz"
    yield Source("cardiac", heart, read_nifti(heart), read_itk(heart))
    series = data / "volumes" / "pcasl.nii.gz"
    first = nibabel.load(series).slicer[..., 0]
    one = Path(tempfile.mkdtemp()) / "pcasl_0.nii.gz"
    nibabel.save(first, one)
    yield Source("pcasl, one volume", one, read_nifti(one), read_itk(one))
    yield Source("pcasl, 10 channels", series, read_nifti(one), read_itk(one), channels=10)
    for folder in sorted((data / "dicom" / "Study1").iterdir()):
        image = SimpleITK.ReadImage(SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
        copied = Path(tempfile.mkdtemp()) / f"{folder.name}.mha"
        SimpleITK.WriteImage(image, str(copied))
        yield Source(folder.name, folder, read_itk(copied), read_itk(copied), of="DICOM")


def limit_of(values: AnyArray) -> float:
    """A number between two neighbouring intensities, far from both, of the brighter ones."""
    found = np.unique(values.astype(np.float32))
    found = found[(found >= np.quantile(values, 0.9)) & (found <= np.quantile(values, 0.999))]
    widest = int(np.diff(found).argmax())
    return float(found[widest] + found[widest + 1]) / 2


def real(data: Path) -> dict[str, Cells]:
    """By real file: as it is to every format of label maps, and in every format that other libraries write it in to some."""
    found = {}
    for source in volumes(data):
        print(f"{source.name} …", file=sys.stderr, flush=True)
        found[source.name] = _of_volume(source)
    return found | {"EM, planar": _of_plane(data)}


LARGE = 3_000_000
"""Voxels from which on an image is not written in other formats, too: it would take minutes."""

REWRITTEN = (".nii.gz", ".tif")
"""To these formats a real volume goes that another library has written in one of ours: one that holds all geometry, one that does not."""


def _of_volume(source: Source) -> Cells:
    limit = limit_of(source.itk.values_zyx)
    cells: Cells = {"as it is": {}}
    for ending, read in LABEL_MAPS.items():
        if read.of in (None, source.of):
            at = source.nifti if ending.startswith(".nii") else source.itk
            cells["as it is"][ending] = _outcome(partial(_compare, source.path, at, limit, source.channels, ending))
    if source.channels == 1 and source.itk.values_zyx.size < LARGE:
        whole = _in_whole_numbers(source.itk)
        limit = limit_of(whole.values_zyx)
        for name, written in IMAGES.items():
            for ending in REWRITTEN:
                at = whole.reduced(common(written.holds, LABEL_MAPS[ending].holds))
                cells.setdefault(name, {})[ending] = _outcome(partial(_written_and_compared, written, at, limit, ending))
    return cells


def _in_whole_numbers(image: Placed) -> Placed:
    """Intensities as 16-bit integers, which every format can hold."""
    values = image.values_zyx.astype(np.float64)
    return Placed(np.rint(values * min(1.0, 30_000 / np.abs(values).max())).astype(np.int16), image.affine_xyz)


def _written_and_compared(written: ImageFormat, placed: Placed, limit: float, ending: str, folder: Path) -> None:
    path = folder / f"case{written.ending}"
    written.write(path, placed)
    _compare(path, placed, limit, 1, ending, folder)


def _compare(path: Path, placed: Placed, limit: float, channels: int, ending: str, folder: Path) -> None:
    spacing = tuple(float(value) for value in placed.spacing_mm_xyz[::-1])
    model = threshold_model(spacing, channels=channels, limit=limit, patch=(32, 128, 128))
    output, read = predicted(model, (path,), folder / f"label{ending}"), LABEL_MAPS[ending]
    bright = placed.values_zyx.astype(np.float32) > limit
    tolerance = SAME_PLACE * placed.spacing_mm_xyz.min()
    found = None if read.read is None else read.read(output)
    if found is not None and np.abs(found.affine_xyz - placed.reduced(read.holds).affine_xyz).max() <= tolerance:
        # Arrays in the same order: that their corners lie in the same places says it of all, and comparing millions would take long.
        corners = np.argwhere(np.ones((2, 2, 2))) * (np.array(bright.shape[::-1]) - 1)
        apart = np.abs(np.column_stack([corners, np.ones(8)]) @ (found.affine_xyz - placed.reduced(read.holds).affine_xyz).T).max()
        assert apart <= tolerance, f"corners are {apart:.4g} mm apart"
        np.testing.assert_array_equal(found.values_zyx == VALUE, bright)
        return
    # DICOM's slices have no order of their own: they may come the other way round.
    assert_same_places(placed.reduced(read.holds).places(bright), places_in(output, read, placed), tolerance)


def _of_plane(data: Path) -> Cells:
    source = next((data / "Dataset101_EM" / "imagesTr").glob("*.png"))
    plane, cells = np.asarray(Image.open(source)), {}
    limit = limit_of(plane)
    for kind, write in PLANES.items():
        cells[kind] = {}
        for ending, read in PLANAR_LABELS.items():
            cells[kind][ending] = _outcome(partial(_compare_planes, plane, limit, (kind, write), (ending, read)))
    return cells


def _compare_planes(plane: AnyArray, limit: float, source: tuple[str, WritePlane], target: tuple[str, ReadPlane], folder: Path) -> None:
    path = folder / f"case{source[0]}"
    source[1](path, plane)
    model = threshold_model((1.0, 1.0), limit=limit, patch=(256, 256))
    np.testing.assert_array_equal(target[1](predicted(model, (path,), folder / f"label{target[0]}")) == VALUE, plane > limit)


def _itk_plane(path: Path, plane: AnyArray) -> None:
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(plane), str(path))


PLANES: dict[str, WritePlane] = {
    ".png": lambda path, plane: Image.fromarray(plane).save(path),
    ".bmp": lambda path, plane: Image.fromarray(plane).save(path),
    ".tif": lambda path, plane: tifffile.imwrite(path, plane),
    ".nii.gz": lambda path, plane: nibabel.save(nibabel.Nifti1Image(plane.T, np.eye(4)), path),
    ".nrrd": _itk_plane,
    ".mha": _itk_plane,
}
PLANAR_LABELS: dict[str, ReadPlane] = {
    ".png": lambda path: np.asarray(Image.open(path)),
    ".bmp": lambda path: np.asarray(Image.open(path)),
    ".tif": tifffile.imread,
    ".nii.gz": lambda path: np.asarray(nibabel.load(path).dataobj).T,
    ".nrrd": lambda path: SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path))),
    ".mha": lambda path: SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path))),
}


def _outcome(run: Callable[[Path], None]) -> str:
    with tempfile.TemporaryDirectory() as folder:
        try:
            run(Path(folder))
        except Exception as error:
            return f"FAILED: {' '.join(str(error).split())[:300]}"
    return "ok"


def show(title: str, cells: Cells) -> list[str]:
    """Prints a table; returns what failed."""
    outs = list(dict.fromkeys(out for row in cells.values() for out in row))
    show_table(title, ["in \\ out", *outs], [[name, *(row.get(out, "").split(":")[0] for out in outs)] for name, row in cells.items()])
    return [f"{name} → {out}: {cell}" for name, row in cells.items() for out, cell in row.items() if cell.startswith("FAILED")]


def main(arguments: list[str] | None = None) -> int:
    """Runs what was asked for; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.formats", description=__doc__.splitlines()[0])
    parser.add_argument("--examples", type=int, default=0, help="so many generated images, half as many again where something is resampled")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", type=Path, help="a folder of real files, as the tests have it")
    parser.add_argument("--json", type=Path, default=Path("benchmark_results/formats.json"), help="where the result goes")
    chosen = parser.parse_args(arguments)
    if not chosen.examples and chosen.data is None:
        parser.error("nothing to do: give --examples, --data or both")
    logging.disable(logging.WARNING)
    tables: dict[str, Cells] = {}
    if chosen.examples:
        tables["Examples in place, voxel by voxel"] = generated(chosen.examples, chosen.seed, resampled=False)
        tables["Examples in place within a voxel, resampled"] = generated(chosen.examples // 2, chosen.seed, resampled=True)
    if chosen.data is not None:
        tables |= {f"Real: {name}": cells for name, cells in real(chosen.data).items()}
    failed = [line for title, cells in tables.items() for line in show(title, cells)]
    write_json(chosen.json, {"machine": machine(), "seed": chosen.seed, "tables": tables})
    for line in failed:
        print(line, file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
