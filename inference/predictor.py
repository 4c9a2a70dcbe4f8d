"""A trained model from Python: loaded once, for many images in memory or in files."""

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from autounet.dataset import channel_problems
from autounet.device import pick_device, pick_precision
from autounet.errors import ImageError, UsageError
from autounet.geometry import Grid
from autounet.image_names import group_channels
from autounet.images.stored import make_grid
from autounet.inference.bundled import load_bundle
from autounet.inference.model import Model, choose_before, choose_trained, load_folds
from autounet.inference.objects import label_object, read_object, to_float32
from autounet.inference.run import Predicted, PredictionJob, predict_cases
from autounet.inference.segment import WindowOptions, segment
from autounet.inference.validate import output_ending
from autounet.layout import RunLayout
from autounet.plan import Plan
from autounet.runtime import Runtime

NAME = "image"
MOST_GB, MOST_WORKERS = 1e6, 256


@dataclass(frozen=True, slots=True, kw_only=True)
class SpacingZYX:
    """Voxel spacing in mm along the axes of an array (z, y, x). Named, because libraries disagree about the order."""

    z: float
    y: float
    x: float


class Predictor:
    """A trained model.

    Example:
        >>> from autounet import Predictor, SpacingZYX
        >>> predictor = Predictor.load("hippocampus.zip")
        >>> labels_zyx = predictor.predict(image_czyx, SpacingZYX(z=1.0, y=1.0, x=1.0))

    One instance may be used from several threads; images are then predicted one after the other.
    """

    def __init__(self, model: Model, runtime: Runtime, mirror: bool = True) -> None:
        self._model, self._runtime, self._mirror = model, runtime, mirror
        self._turn = threading.Lock()

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        device: str = "auto",
        precision: str = "auto",
        configuration: str | None = None,
        folds: Sequence[str] | None = None,
        mirror: bool = True,
        postprocessing: bool = True,
        workers: int = 2,
    ) -> "Predictor":
        """Loads a bundle (``autounet export``, ``autounet import``) or a run folder.

        Args:
            path: File or folder.
            device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
            precision: ``auto``, ``fp32``, ``bf16`` or ``fp16``.
            configuration: By default what ``autounet predict`` would take.
            folds: Such as ``["0", "1"]``; by default all.
            mirror: Average over mirrored copies: better, 4 to 8 times slower.
            postprocessing: Do what the bundle says is done to label maps.
            workers: Threads that read and write beside the network, for ``predict_files``.

        Raises:
            AutounetError: There is no such model, or it is damaged or refused.
        """
        if folds is not None:
            folds = [] if isinstance(folds, str) or not isinstance(folds, Iterable) else [str(fold) for fold in folds]
            if not folds:
                raise UsageError("folds: must be a list of names", expected="such as ['0', '1'], or None for all")
        if not isinstance(path, (str, PathLike)):
            raise UsageError("path: is no path", found=f"{path!r} of type {type(path).__name__}", expected="a bundle or a run folder")
        if isinstance(workers, bool) or not isinstance(workers, int) or not 0 <= workers <= MOST_WORKERS:
            raise UsageError("workers: is no number of threads", found=repr(workers), expected=f"0 to {MOST_WORKERS}")
        path, runtime = Path(path), Runtime(device=device, precision=precision, workers=workers)
        pick_precision(runtime, pick_device(runtime))
        if path.is_dir():
            layout = RunLayout(path)
            trained, plan = choose_trained(layout, configuration, folds), Plan.load(layout.plan)
            return cls(load_folds(plan, trained, runtime, choose_before(layout, plan, trained, folds)), runtime, mirror)
        return cls(load_bundle(path, runtime, configuration, folds, postprocessing), runtime, mirror)

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels that an image must have, in this order."""
        return self._model.plan.channels

    @property
    def labels(self) -> dict[str, tuple[int, ...]]:
        """Structures by name and the values that mark them in label maps; 0 is background."""
        return {entry.name: entry.values for entry in self._model.plan.labels.classes}

    def predict(self, array_czyx: npt.ArrayLike, spacing_zyx: SpacingZYX) -> npt.NDArray[Any]:
        """The label map of an array.

        Args:
            array_czyx: Real numbers, (channels, z, y, x); it is not changed. A planar image has z = 1.
            spacing_zyx: ``SpacingZYX(z=…, y=…, x=…)``, in mm.

        Returns:
            (z, y, x), in the dataset's label values.

        Raises:
            ImageError: Array or spacing are not such, or the model cannot segment the image.
        """
        if not isinstance(spacing_zyx, SpacingZYX):
            raise ImageError(
                f"{NAME}: spacing_zyx must name its axes",
                found=f"{spacing_zyx!r} of type {type(spacing_zyx).__name__}",
                expected="SpacingZYX(z=…, y=…, x=…)",
                remedy="write SpacingZYX(z=…, y=…, x=…), in the order of the array's axes; SimpleITK's GetSpacing() is x, y, z",
            )
        image = to_float32(array_czyx, NAME)
        if image.ndim != 4 or 0 in image.shape:
            raise ImageError(
                f"{NAME}: " + ("has no voxels" if 0 in image.shape else "array_czyx must have four axes: channels, z, y, x"),
                found=f"shape {image.shape}",
                remedy="add the axis of channels with array[None]" if image.ndim == 3 else None,
            )
        self._check_channels(len(image))
        try:
            spacing = tuple(float(value) for value in (spacing_zyx.x, spacing_zyx.y, spacing_zyx.z))
        except (TypeError, ValueError):
            raise ImageError(f"{NAME}: the voxel spacing is unusable", found=repr(spacing_zyx), expected="numbers, in mm") from None
        grid = make_grid(Path(NAME), image.shape, spacing, ndim=2 if image.shape[1] == 1 and self._is_planar else 3)
        return self._segment(image, grid)

    def predict_image(self, image: Any) -> Any:
        """The label map of an image object, as an object of the same kind on the same grid.

        Args:
            image: A SimpleITK image (components or a fourth axis are channels), a nibabel NIfTI image, or a list of such images with one
                channel each, on one grid.

        Raises:
            ImageError: It cannot be used.
        """
        array_czyx, grid = read_object(image)
        self._check_channels(len(array_czyx))
        return label_object(self._segment(array_czyx, grid), image)

    def predict_files(
        self,
        images: Sequence[str | Path] | Mapping[str | Path, str | Path],
        output: str | Path | None = None,
        *,
        memory_gb: float | None = None,
    ) -> Predicted:
        """Reads, predicts and writes files; reading and writing go on beside the network.

        Args:
            images: Files for the folder ``output`` (``case_0000``, ``case_0001``, … are channels of one case, the label map is named after
                the case); or a mapping from image file to label file.
            output: Folder for the label maps; None with a mapping.
            memory_gb: Memory this process is to keep to; by default most of what is available.

        Returns:
            What was done. Files that failed are in ``problems``; the others are written.

        Raises:
            UsageError: It is not clear what goes where.
        """
        if memory_gb is not None and not (isinstance(memory_gb, (int, float)) and 0 < memory_gb < MOST_GB):
            raise UsageError("memory_gb: cannot be kept to", found=repr(memory_gb), expected="gigabytes, such as 6")
        with self._turn:
            return predict_cases(self._model, self._jobs(images, output), self._runtime, self._mirror, memory_gb)

    @property
    def _is_planar(self) -> bool:
        return self._model.plan.ndim == 2

    def _check_channels(self, found: int) -> None:
        if found != len(self.channels):
            raise ImageError(
                f"{NAME}: wrong number of channels", found=found, expected=f"{len(self.channels)} ({', '.join(self.channels)})"
            )

    def _segment(self, image_czyx: npt.NDArray[np.float32], grid: Grid) -> npt.NDArray[Any]:
        with self._turn:
            return segment(self._model, image_czyx, grid, NAME, replace(WindowOptions(), mirror=self._mirror))

    def _jobs(self, images: Sequence[str | Path] | Mapping[str | Path, str | Path], output: str | Path | None) -> list[PredictionJob]:
        if isinstance(images, Mapping):
            if output is not None:
                raise UsageError("predict_files: label files are named twice", remedy="leave the folder out, or give a list of images")
            jobs = [PredictionJob(str(image), (Path(image),), Path(labels)) for image, labels in images.items()]
        elif output is None or isinstance(images, (str, PathLike)):
            raise UsageError("predict_files: needs a list of images and a folder, or a mapping from image to label file")
        else:
            if not isinstance(images, Iterable):
                raise UsageError("predict_files: no list of images", found=repr(images), expected="paths of image files")
            images = list(images)
            if odd := [image for image in images if not isinstance(image, (str, PathLike))]:
                raise UsageError("predict_files: is no path", found=f"{odd[0]!r:.200}", expected="paths of image files")
            groups = group_channels([Path(image) for image in images])
            problems = [entry for case, files in groups.items() for entry in channel_problems(case, files, len(self.channels), "the model")]
            if problems:
                raise UsageError(f"predict_files: {problems[0].case}: {problems[0].what}", remedy=problems[0].remedy)
            jobs = [PredictionJob(case, files, Path(output) / f"{case}{output_ending(files[0])}") for case, files in groups.items()]
            if any(file.resolve().parent == Path(output).resolve() for job in jobs for file in job.images):
                raise UsageError(
                    f"predict_files: {output} is the folder of the images, where label maps would pass for images",
                    remedy="choose another folder",
                )
        _check_outputs(jobs)
        return jobs


def _check_outputs(jobs: Sequence[PredictionJob]) -> None:
    """Raises UsageError where a label map would replace an image or another label map."""
    inputs, outputs = {file.resolve() for job in jobs for file in job.images}, set[Path]()
    for job in jobs:
        target = job.output.resolve()
        if target in inputs:
            raise UsageError(f"predict_files: would replace the image {job.output}", remedy="choose another name or folder")
        if target in outputs:
            raise UsageError(f"predict_files: two label maps go to {job.output}", remedy="name a file for each")
        outputs.add(target)
