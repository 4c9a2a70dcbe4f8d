"""Probabilities of every class on the image's own grid, of one model or averaged over several, in a file instead of memory."""

import zipfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from autounet.artefact import atomic_path
from autounet.geometry import Grid, Trace, TripleMm
from autounet.inference.restore import RowStream, check_scores, paint
from autounet.inference.scratch import scratch_array
from autounet.labels import LabelSpec

PIECE_BYTES = 16 * 2**20
"""So much is compressed, or made into labels, at once."""

TINY = 1e-12
"""Least probability that a logarithm is taken of."""


class ProbabilityGrid:
    """The mean probabilities of one case; a context manager, whose scratch file is gone when it ends.

    What ``taker`` returns takes the scores of one model as ``LabelRestorer`` does; once all have, the rest can be asked for.

    Args:
        folder: Where the scratch file lies.
        grid: The image's own.
        labels: The dataset's labels.
        shares: What the probabilities of each model count, in the order of ``taker``; their sum is 1.
    """

    def __init__(self, folder: Path, grid: Grid, labels: LabelSpec, shares: Sequence[float] = (1.0,)) -> None:
        self._folder, self._labels, self._shares = folder, labels, tuple(shares)
        self._shape = (labels.outputs, *grid.shape_zyx)
        self._streams: list[RowStream] = []
        self._draft: IO[bytes] | None = None
        self._whole: Any = None

    def __enter__(self) -> Self:
        # Half precision is what is written for one model; the mean of several is kept exact enough that ties are decided as by nnU-Net.
        self._draft, self._whole = scratch_array(self._folder, self._shape, np.float16 if len(self._shares) == 1 else np.float32)
        if not self._labels.overlapping:
            self._whole[0] = 1
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._whole = None
        if self._draft is not None:
            with suppress(OSError):
                self._draft.close()

    def taker(self, trace: Trace, target_mm: TripleMm) -> "_Taker":
        """Takes the scores of one model.

        Args:
            trace: How the image came to that network's grid.
            target_mm: Spacing of the network's grid, in transposed order.
        """
        stream, share = RowStream(trace, target_mm), self._shares[len(self._streams)]
        self._streams.append(stream)
        axes_of_image = (0, *(axis + 1 for axis in trace.transpose))
        cropped = self._whole.transpose(axes_of_image)[(slice(None), *trace.box.slices())]
        if not self._labels.overlapping:  # outside the crop it stays background
            cropped[0] -= share
        return _Taker(stream, cropped, self._labels, share)

    def labels_zyx(self) -> npt.NDArray[Any]:
        """The label map in the dataset's label values: the most probable class, or every region above one half."""
        self._check_complete()
        return np.concatenate([labels_of(part, self._labels) for part in self._parts()])

    def entropy_percent_zyx(self) -> npt.NDArray[np.uint8]:
        """Predictive entropy from 0 (sure) to 100 (all classes, or of a region yes and no, equally likely); of regions the largest."""
        self._check_complete()
        parts = []
        for part in self._parts():
            probability = np.clip(part.astype(np.float32), TINY, 1)
            entropy = -probability * np.log(probability)
            if self._labels.overlapping:
                other = np.clip(1 - probability, TINY, 1)
                parts.append(_percent((entropy - other * np.log(other)).max(0) / np.log(2)))
            else:
                parts.append(_percent(entropy.sum(0) / np.log(len(part))))
        return np.concatenate(parts)

    def write(self, path: Path) -> None:
        """Writes a compressed ``.npz`` with one array, ``probabilities``: (outputs, z, y, x) float16, axes as the image was read.

        Background comes first, or the regions. Outside the crop background is 1 and all else 0.

        Raises:
            ArtefactError: The disk refuses.
        """
        self._check_complete()
        with (
            atomic_path(path, durable=False) as temporary,
            zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
            archive.open("probabilities.npy", "w", force_zip64=True) as member,
        ):
            header = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.float16)), "fortran_order": False, "shape": self._shape}
            np.lib.format.write_array_header_1_0(member, header)
            flat = self._whole.reshape(-1)
            step = PIECE_BYTES // 2
            for first in range(0, flat.size, step):
                member.write(flat[first : first + step].astype(np.float16).tobytes())

    def _parts(self) -> Iterator[npt.NDArray[Any]]:
        """Slabs along z."""
        per_slice = 4 * self._whole[:, :1].size
        step = max(1, PIECE_BYTES // per_slice)
        for first in range(0, self._shape[1], step):
            yield self._whole[:, first : first + step]

    def _check_complete(self) -> None:
        if len(self._streams) != len(self._shares):
            raise ValueError(f"scores of {len(self._streams)} models of {len(self._shares)}")
        for stream in self._streams:
            stream.check_complete()


def labels_of(probabilities_czyx: npt.NDArray[Any], labels: LabelSpec) -> npt.NDArray[Any]:
    """(outputs, z, y, x) → (z, y, x) label values: the most probable class, or every region above one half, later ones over earlier."""
    if not labels.overlapping:
        return labels.decode(probabilities_czyx.argmax(0))
    winners = np.zeros(probabilities_czyx.shape[1:], np.uint8 if labels.outputs < 2**8 else np.uint16)
    for number, probability in enumerate(probabilities_czyx, start=1):
        winners[probability > 0.5] = number
    return paint(winners, labels)


def _percent(share: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    return np.asarray(np.rint(100 * share).clip(0, 100), np.uint8)


class _Taker:
    """Adds one model's probabilities to the mean."""

    def __init__(self, stream: RowStream, cropped: npt.NDArray[Any], labels: LabelSpec, share: float) -> None:
        self._stream, self._cropped, self._labels, self._share = stream, cropped, labels, share

    def add(self, rows_czyx: Tensor) -> None:
        """The next rows of the network's grid: (outputs, rows, y, x), before softmax or sigmoid. Raises ImageError."""
        check_scores(rows_czyx)
        for start, stop, scores, axes in self._stream.parts(rows_czyx, per_voxel=12 * self._labels.outputs):
            dense = scores.float()
            for position, axis in enumerate(axes, start=1):
                first = dense.index_select(position, axis.cell)
                if axis.linear:
                    share = axis.share.float().view([-1 if place == position else 1 for place in range(4)])
                    after = dense.index_select(position, axis.next_to(axis.cell))
                    first = torch.lerp(first, after, share.expand_as(first))
                dense = first
            probabilities = torch.sigmoid(dense) if self._labels.overlapping else torch.softmax(dense, 0)
            self._cropped[:, start:stop] += (probabilities * self._share).to(torch.float32).cpu().numpy()
