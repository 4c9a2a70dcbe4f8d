"""The prepared cases on disk: compressed arrays of which a patch can be read alone, and one small JSON file per case.

``<case>.b2nd`` image (c, z, y, x) float32, ``<case>.seg.b2nd`` label indices (z, y, x) and, as metadata, the voxels of each class for
oversampling, ``<case>.border.b2nd`` only where the loss asks for it: weight of nearness to two objects (z, y, x) float16,
``<case>.prev.b2nd`` only for the second stage of a cascade: label indices (z, y, x) that the first one has predicted;
``<case>.json`` written last: a case without it, or whose files do not have the sizes it names, is not there. Few files: making one can
take longer than preparing a small case.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any, ClassVar

import blosc2
import numpy as np
import numpy.typing as npt

from autounet.artefact import Artefact, Frozen, atomic_path
from autounet.errors import ArtefactError
from autounet.geometry import Trace, Triple
from autounet.image_names import image_state
from autounet.labels import LabelSpec

COMPRESSION: dict[str, Any] = {"codec": blosc2.Codec.ZSTD, "clevel": 1, "nthreads": 1}
"""On normalised images, higher levels take up to twice the time and gain less than 0.1 % of the size."""

FOREGROUND_SEED = 1234
FOREGROUND_POINTS = 10_000

FOREGROUND_KEY = "foreground"
"""Metadata of the label file: the voxels of all classes, one class after the other, and where labels have an ignore value those of
anything annotated; compressed (3, n) int32, little-endian."""

MEMORY_BYTES = 2**26
"""Arrays up to this are packed in memory and written at once, which is quicker; larger ones piece by piece into their file."""

CHUNK_VOXELS = 2**18
"""About so many voxels are compressed together, in blocks that are read alone: of smaller chunks there would be too many to write."""


class SourceFile(Frozen):
    """A raw file as it was when the case was prepared."""

    name: str
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> "SourceFile":
        """The file's present state, or that of an image's folder or zip. Raises OSError when it is gone."""
        size, mtime_ns = image_state(path)
        return cls(name=path.name, size=size, mtime_ns=mtime_ns)


class StoredCase(Artefact):
    """What is known about a prepared case without opening its arrays."""

    KIND: ClassVar[str] = "prepared case"
    VERSION: ClassVar[int] = 3

    kind: str = KIND
    schema_version: int = VERSION
    case: str
    trace: Trace
    sources: tuple[SourceFile, ...]
    file_bytes: tuple[int, int]
    """Sizes of the image and label files."""
    foreground_counts: tuple[int, ...]
    """Stored voxels of each class, in the order of LabelSpec.classes."""
    border_bytes: int | None = None
    """Size of the border file; None where there is none."""
    annotated_count: int | None = None
    """Stored voxels of anything annotated; None where labels have no ignore value."""
    annotated: tuple[int, ...] | None = None
    """Positions in LabelSpec.classes of the classes that are annotated in this case; None for all."""
    previous_bytes: int | None = None
    """Size of the file with what a cascade's first stage has predicted; None where there is none."""

    def origin(self) -> list[Any]:
        """Plain values that tell what the case was made from: its raw files, and which classes are annotated unless all are."""
        files: list[Any] = [source.model_dump() for source in self.sources]
        return files if self.annotated is None else [*files, {"annotated": list(self.annotated)}]


@dataclass(frozen=True, slots=True)
class Store:
    """A folder of prepared cases of one configuration."""

    root: Path
    recipe: str
    """Digest of what decides the prepared arrays; cases made by another recipe are stale."""

    def files(self, case: str) -> tuple[Path, Path, Path]:
        """Image, labels, description."""
        return self.root / f"{case}.b2nd", self.root / f"{case}.seg.b2nd", self.root / f"{case}.json"

    def border_file(self, case: str) -> Path:
        """Border weights, of plans whose loss has such."""
        return self.root / f"{case}.border.b2nd"

    def previous_file(self, case: str) -> Path:
        """What a cascade's first stage has predicted."""
        return self.root / f"{case}.prev.b2nd"

    def find(
        self, case: str, sources: Sequence[SourceFile] | None = None, annotated_classes: Sequence[int] | None = None
    ) -> StoredCase | None:
        """The stored case if it is whole, of this recipe and (when given) made from these files with these classes; else None."""
        *arrays, description = self.files(case)
        try:
            stored = StoredCase.load(description)
            sizes = tuple(path.stat().st_size for path in arrays)
            border = None if stored.border_bytes is None else self.border_file(case).stat().st_size
            previous = None if stored.previous_bytes is None else self.previous_file(case).stat().st_size
        except (ArtefactError, OSError):
            return None
        whole = stored.case == case and (*sizes, border, previous) == (*stored.file_bytes, stored.border_bytes, stored.previous_bytes)
        fresh = whole and stored.made_from.get("recipe") == self.recipe
        if not fresh or sources is None:
            return stored if fresh else None
        return stored if (tuple(sources), _as_stored(annotated_classes)) == (stored.sources, stored.annotated) else None

    def write(
        self,
        case: str,
        image_czyx: npt.NDArray[np.float32],
        labels_zyx: npt.NDArray[Any],
        trace: Trace,
        labels: LabelSpec,
        sources: Sequence[SourceFile],
        patch: Triple,
        border_zyx: npt.NDArray[np.float16] | None = None,
        annotated_classes: Sequence[int] | None = None,
        previous_zyx: npt.NDArray[Any] | None = None,
    ) -> StoredCase:
        """Writes a case; half a ``patch`` (z, y, x) along each axis is read alone. Raises ArtefactError when the disk refuses.

        ``annotated_classes`` are positions in ``labels.classes``, None for all; the others have no foreground.
        """
        image_file, labels_file, description = self.files(case)
        try:
            description.unlink(missing_ok=True)
            self.border_file(case).unlink(missing_ok=True)
            self.previous_file(case).unlink(missing_ok=True)
        except OSError as error:
            raise ArtefactError(
                f"{description}: cannot be written", found=error.strerror or error, remedy="check the folder's permissions"
            ) from error
        foreground = foreground_voxels(labels_zyx, labels, annotated_classes)
        annotated = None if labels.ignore_index is None else annotated_voxels(labels_zyx, labels.ignore_index)
        blocks = tuple(max(1, min(size, -(-side // 2))) for size, side in zip(labels_zyx.shape, patch, strict=True))
        _write_array(image_file, image_czyx, blocks)
        _write_array(
            labels_file, labels_zyx, blocks, {FOREGROUND_KEY: _pack(foreground if annotated is None else [*foreground, annotated])}
        )
        if border_zyx is not None:
            _write_array(self.border_file(case), border_zyx, blocks)
        if previous_zyx is not None:
            _write_array(self.previous_file(case), previous_zyx, blocks)
        stored = StoredCase(
            made_from={"recipe": self.recipe},
            case=case,
            trace=trace,
            sources=tuple(sources),
            file_bytes=(image_file.stat().st_size, labels_file.stat().st_size),
            foreground_counts=tuple(len(voxels) for voxels in foreground),
            border_bytes=None if border_zyx is None else self.border_file(case).stat().st_size,
            annotated_count=None if annotated is None else len(annotated),
            annotated=_as_stored(annotated_classes),
            previous_bytes=None if previous_zyx is None else self.previous_file(case).stat().st_size,
        )
        with atomic_path(description, durable=False) as temporary:
            temporary.write_text(stored.to_json(), encoding="utf-8")
        return stored

    def open(self, stored: StoredCase) -> "OpenCase":
        """Opens the arrays lazily. Raises ArtefactError when one cannot be read, now or later."""
        image_file, labels_file, _ = self.files(stored.case)
        labels = StoredArray.open(labels_file)
        more = () if stored.annotated_count is None else (stored.annotated_count,)
        voxels = labels.foreground((*stored.foreground_counts, *more))
        return OpenCase(
            stored.case,
            StoredArray.open(image_file),
            labels,
            voxels[: len(stored.foreground_counts)],
            None if stored.border_bytes is None else StoredArray.open(self.border_file(stored.case)),
            voxels[-1] if more else None,
            None if stored.previous_bytes is None else StoredArray.open(self.previous_file(stored.case)),
        )


@dataclass(frozen=True, slots=True)
class StoredArray:
    """An array on disk; indexing it reads only that part. What cannot be unpacked is an ArtefactError; a changed byte may go unnoticed."""

    path: Path
    shape: tuple[int, ...]
    blocks: tuple[int, ...]
    """Read as a whole, whatever part of one is asked for."""
    dtype: np.dtype[Any]
    _array: Any

    @classmethod
    def open(cls, path: Path) -> "StoredArray":
        """Opens the file without reading its values. Raises ArtefactError."""
        try:
            array = blosc2.open(str(path), mode="r")
            return cls(path, array.shape, array.blocks, array.dtype, array)
        except MemoryError:
            raise
        except Exception as error:  # blosc2 raises many kinds
            raise _damaged(path, error) from None

    def __getitem__(self, part: Any) -> npt.NDArray[Any]:
        try:
            return np.asarray(self._array[part])
        except MemoryError:
            raise
        except Exception as error:  # blosc2 raises many kinds
            raise _damaged(self.path, error) from None

    def foreground(self, counts: Sequence[int]) -> tuple[npt.NDArray[np.int32], ...]:
        """The voxels of each class that were stored beside the values. Raises ArtefactError."""
        try:
            return _unpack(self._array.schunk.vlmeta[FOREGROUND_KEY], counts)
        except MemoryError:
            raise
        except Exception as error:  # blosc2 raises many kinds
            raise _damaged(self.path, error) from None


@dataclass(frozen=True, slots=True)
class OpenCase:
    """Arrays of a stored case; indexing ``image``, ``labels``, ``border`` or ``previous`` reads only that part."""

    case: str
    image: Any
    """(c, z, y, x) float32."""
    labels: Any
    """(z, y, x) integer."""
    foreground: tuple[npt.NDArray[np.int32], ...]
    """Per class (n, 3): z, y, x."""
    border: Any = None
    """(z, y, x) float16, None where the plan's loss has no such term."""
    annotated_voxels: npt.NDArray[np.int32] | None = None
    """(n, 3): voxels of any label but the ignore label; None where there is none."""
    previous: Any = None
    """(z, y, x) integer: label indices that a cascade's first stage has predicted; None but for its second stage."""

    @property
    def arrays(self) -> tuple[Any, ...]:
        """The large ones."""
        return tuple(array for array in (self.image, self.labels, self.border, self.previous) if array is not None)

    def in_memory(self) -> "OpenCase":
        """The same case with its arrays read into memory."""
        border, previous = (None if array is None else array[:] for array in (self.border, self.previous))
        return replace(self, image=self.image[:], labels=self.labels[:], border=border, previous=previous)


def foreground_voxels(
    labels_zyx: npt.NDArray[Any], labels: LabelSpec, annotated_classes: Sequence[int] | None = None
) -> list[npt.NDArray[np.int32]]:
    """Voxels of each class, (n, 3) z, y, x: all of them, or a seeded sample of max(10000, 1 %) where there are more.

    Classes at other positions than ``annotated_classes`` (None for all) have none: a region may share values with one that is annotated.

    Source: nnunetv2 2.8.1, ``default_preprocessor.py``, _sample_foreground_locations.
    """
    rng = np.random.default_rng(FOREGROUND_SEED)
    found = []
    for position, entry in enumerate(labels.classes):
        if annotated_classes is not None and position not in annotated_classes:
            found.append(np.zeros((0, 3), np.int32))
            continue
        indices = labels.class_indices(entry)
        mask = labels_zyx == indices[0] if len(indices) == 1 else np.isin(labels_zyx, indices)
        found.append(_sample(mask, rng))
    return found


def annotated_voxels(labels_zyx: npt.NDArray[Any], ignore_index: int) -> npt.NDArray[np.int32]:
    """Voxels (n, 3) of any label but the ignore label, background and what is outside the mask among them; as many as of a class."""
    return _sample(labels_zyx != ignore_index, np.random.default_rng(FOREGROUND_SEED))


def _as_stored(positions: Sequence[int] | None) -> tuple[int, ...] | None:
    return None if positions is None else tuple(positions)


def _sample(mask: npt.NDArray[np.bool_], rng: np.random.Generator) -> npt.NDArray[np.int32]:
    flat = np.flatnonzero(mask)
    limit = max(FOREGROUND_POINTS, -(-len(flat) // 100))
    if len(flat) > limit:
        flat = np.sort(rng.choice(flat, limit, replace=False))
    return np.stack(np.unravel_index(flat, mask.shape), axis=1).astype(np.int32)


def _damaged(path: Path, error: Exception) -> ArtefactError:
    remedy = "delete this file if it is still there: the same command then prepares the case again"
    return ArtefactError(f"{path}: prepared case cannot be read", found=str(error).split("\n")[0], remedy=remedy)


def _pack(foreground: Sequence[npt.NDArray[np.int32]]) -> bytes:
    """Axis after axis, which compresses best. blosc2's own packing of metadata takes ten times as long."""
    voxels = np.concatenate(foreground).T.astype("<i4", order="C")
    packed: bytes = blosc2.compress2(voxels, **COMPRESSION, typesize=4) if voxels.size else b""
    return packed


def _unpack(packed: bytes, counts: Sequence[int]) -> tuple[npt.NDArray[np.int32], ...]:
    flat = np.frombuffer(blosc2.decompress2(packed) if packed else b"", "<i4")
    voxels = np.ascontiguousarray(flat.reshape(3, sum(counts)).T, np.int32)
    return tuple(np.split(voxels, np.cumsum(counts)[:-1]))


def _write_array(path: Path, array: npt.NDArray[Any], blocks: tuple[int, ...], metadata: Mapping[str, bytes] | None = None) -> None:
    """Writes an array (…, z, y, x) whose blocks (z, y, x) can be read alone; those of small arrays are blosc2's choice.

    A file that a power cut leaves empty or short is noticed by its size: waiting for the disk would take longer than the rest.
    """
    shape, small = array.shape[-3:], prod(array.shape[-3:]) <= CHUNK_VOXELS
    deep = min(shape[0], blocks[0] * max(1, CHUNK_VOXELS // prod(blocks)))
    lead = (1,) * (array.ndim - 3)
    with atomic_path(path, durable=False) as temporary:
        place: dict[str, Any] = {}
        if array.nbytes > MEMORY_BYTES:
            temporary.unlink()
            place = {"urlpath": str(temporary), "mode": "w"}
        try:
            packed = blosc2.asarray(
                np.ascontiguousarray(array),
                chunks=array.shape if small else (*lead, deep, *blocks[1:]),
                blocks=None if small else (*lead, *blocks),
                cparams=COMPRESSION,
                **place,
            )
            for key, value in (metadata or {}).items():
                packed.schunk.vlmeta[key] = value
            if not place:
                temporary.write_bytes(packed.to_cframe())
        except RuntimeError as error:  # what blosc2 makes of a full disk
            raise OSError(str(error)) from error
