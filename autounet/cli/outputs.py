"""Where ``autounet predict`` writes, in which format, and what of an image a format cannot hold: all of it known before predicting."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from autounet.cli.session import Session
from autounet.cli.stages import some
from autounet.errors import ImageError, Problem, UsageError
from autounet.geometry import IDENTITY_DIRECTION, Grid
from autounet.image_names import DICOM, DRAWN_ENDINGS, RTSTRUCT, SEG, WRITTEN_ENDINGS, image_format, split_ending
from autounet.images import read_size
from autounet.images.dicom_out import need
from autounet.images.meaning import Meaning
from autounet.images.separate import file_names
from autounet.inference.validate import output_ending

FORMATS = {
    **{"nii.gz": ".nii.gz", "nrrd": ".nrrd", "mha": ".mha", "tif": ".tif", "png": ".png"},
    **{"dicom-seg": SEG, "rtstruct": RTSTRUCT},
}
"""What ``--format`` takes → the ending of the files."""

FLAT = (".png", ".bmp")
"""Hold one slice, and no geometry."""

Cases = Mapping[str, tuple[Path, ...]]


def format_ending(wanted: str | None) -> str | None:
    """The ending that ``--format`` means; None leaves it to the images. Raises UsageError."""
    if wanted is None:
        return None
    ending = FORMATS.get(wanted.lower().removeprefix("."))
    if ending is None:
        raise UsageError(f"--format {wanted}: unknown format", expected=f"one of {', '.join(FORMATS)}")
    return ending


def name_outputs(images: Path, cases: Cases, output: Path, wanted: str | None = None) -> dict[str, Path]:
    """Where each case goes: the output folder, in the wanted or the image's format; or the file named for a single image.

    Args:
        images: As given with -i.
        cases: Name → files.
        output: As given with -o.
        wanted: The ending that --format asks for; None for the image's own (PNG for JPEG, DICOM SEG for DICOM).

    Raises:
        UsageError: The outputs would replace images or a dataset's files, or contradict each other.
    """
    if output.is_file() and not is_image_name(output):
        raise UsageError(f"-o {output}: is a file", expected="a folder, or for one image the name of a label map")
    if is_image_name(output) and not output.is_dir():
        outputs = {next(iter(cases)): _named_file(output, len(cases), wanted)}
    else:
        if images.is_dir() and output.resolve() == images.resolve():
            raise UsageError(
                f"-o {output}: is the folder of the images, where label maps would pass for images", remedy="choose another folder"
            )
        if (output.parent / "dataset.json").is_file() and output.name.lower().startswith(("labels", "images")):
            raise UsageError(f"-o {output}: is a folder of the dataset, whose files would be replaced", remedy="choose another folder")
        outputs = {case: output / f"{case}{wanted or output_ending(files[0])}" for case, files in cases.items()}
    inputs = {file.resolve() for files in cases.values() for file in files}
    clash = [path for path in outputs.values() if path.resolve() in inputs]
    if clash:
        raise UsageError(f"-o {output}: would replace the image {clash[0]}", remedy="choose another folder")
    return outputs


def _named_file(output: Path, images: int, wanted: str | None) -> Path:
    if images != 1:
        raise UsageError(f"-o {output}: one file for {images} images", expected="a folder")
    ending = split_ending(output)[1].lower()
    if ending in (".jpg", ".jpeg"):
        raise UsageError(f"-o {output}: JPEG changes label values", remedy="choose another file type, such as .png")
    if ending not in (*WRITTEN_ENDINGS, *DRAWN_ENDINGS):
        stem = split_ending(output)[0]
        raise UsageError(
            f"-o {output}: does not say what kind of label map is meant",
            found=ending,
            expected=f"such as {stem}{SEG} (DICOM segmentation), {stem}{RTSTRUCT} (contours) or {stem}.nii.gz",
        )
    if wanted is not None and ending != wanted:
        raise UsageError(f"-o {output}: is of another format than --format asks for", expected=f"a name that ends in {wanted}")
    return output


def is_image_name(path: Path) -> bool:
    """Whether a path names an image file rather than a folder."""
    return bool(split_ending(path)[1])


def check_per_class(meaning: Meaning, outputs: Mapping[str, Path]) -> None:
    """Refuses --per-class where files cannot be named or hold all structures anyway. Raises UsageError."""
    file_names(meaning)
    together = [path for path in outputs.values() if split_ending(path)[1].lower() in DRAWN_ENDINGS]
    if together:
        raise UsageError(
            f"--per-class: {together[0].name} has every structure as a part of its own already",
            remedy="leave out --per-class, or choose --format nii.gz",
        )


def output_problems(cases: Cases, outputs: Mapping[str, Path]) -> list[Problem]:
    """Cases whose label maps the format cannot hold: volumes as PNG, DICOM objects of images that are no DICOM.

    Raises:
        ImageError: DICOM is to be written, and the package for it is missing.
    """
    found = []
    for case, output in outputs.items():
        ending, image = split_ending(output)[1].lower(), cases[case][0]
        if ending in DRAWN_ENDINGS:
            need("highdicom")
            if image_format(image) != DICOM:
                what = f"{image.name} is no DICOM, and a {'segmentation' if ending == SEG else 'set of contours'} belongs to a DICOM series"
                found.append(Problem(case, what, "predict from the DICOM series, or choose another format, such as --format nii.gz"))
        grid = _grid(image) if ending in FLAT and image_format(image) not in FLAT else None
        if grid is not None and grid.shape_zyx[0] > 1:
            what = f"{image.name} is a volume of {grid.shape_zyx[0]} slices, and {ending[1:].upper()} holds one"
            found.append(Problem(case, what, "choose a format that holds volumes: --format nii.gz or --format tif"))
    return found


def warn_of_lost_geometry(session: Session, cases: Cases, outputs: Mapping[str, Path]) -> None:
    """Says what of the images' geometry their label maps will not have."""
    lost: dict[str, list[str]] = {}
    for case, output in outputs.items():
        ending, image = split_ending(output)[1].lower(), cases[case][0]
        if ending not in (*FLAT, ".tif", ".tiff") or image_format(image) in (*FLAT, ".jpg", ".jpeg", ".tif", ".tiff"):
            continue
        grid = _grid(image)
        if grid is not None and (parts := _lost(grid, ending)):
            lost.setdefault(f"{ending[1:].upper()} keeps no {' and no '.join(parts)}", []).append(case)
    for what, names in lost.items():
        session.screen.warn(f"{what} ({some(names)}): the label maps fit their images voxel by voxel, but do not know where they lie")


def _lost(grid: Grid, ending: str) -> Sequence[str]:
    turned = any(abs(a - b) > 1e-6 for a, b in zip(grid.direction, IDENTITY_DIRECTION, strict=True))
    placed = turned or any(grid.origin_mm_xyz)
    spaced = any(value != 1.0 for value in grid.spacing_mm_zyx[-grid.ndim :])
    keeps_spacing = ending not in FLAT and grid.ndim == 3
    return [*(["voxel spacing"] if spaced and not keeps_spacing else []), *(["origin and direction"] if placed else [])]


def _grid(image: Path) -> Grid | None:
    """From the header; None where it cannot be read, of which the prediction tells."""
    try:
        return read_size(image)[1]
    except ImageError:
        return None
