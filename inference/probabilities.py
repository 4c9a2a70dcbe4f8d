"""Probabilities of every class on the image's own grid, streamed to a file."""

import zipfile
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np
import torch
from torch import Tensor

from autounet.artefact import atomic_path
from autounet.geometry import Trace, TripleMm
from autounet.inference.restore import RowStream
from autounet.inference.scratch import scratch_array
from autounet.labels import LabelSpec

PIECE_BYTES = 16 * 2**20
"""So much is compressed at once."""


class ProbabilityWriter:
    """Takes the scores of one case as ``LabelRestorer`` does, and writes ``path`` when the ``with`` block ends without an error.

    The file is a compressed ``.npz`` with one array, ``probabilities``: (outputs, z, y, x) float16, axes as the image was read; background
    first, or the regions. Outside the crop background is 1 and all else 0. Until the end the numbers lie in a file beside ``path``.

    Args:
        path: The file to write.
        trace: How the image came to the network's grid.
        target_mm: Spacing of the network's grid, in transposed order.
        labels: The dataset's labels.
    """

    def __init__(self, path: Path, trace: Trace, target_mm: TripleMm, labels: LabelSpec) -> None:
        self._path, self._trace, self._labels = path, trace, labels
        self._stream = RowStream(trace, target_mm)
        self._shape = (labels.outputs, *trace.grid.shape_zyx)
        self._draft: IO[bytes] | None = None
        self._whole: Any = None

    def __enter__(self) -> Self:
        self._draft, self._whole = scratch_array(self._path.parent, self._shape, np.float16)
        if not self._labels.overlapping and self._trace.box.shape != self._trace.transposed_shape:
            self._whole[0] = 1
        return self

    def add(self, rows_czyx: Tensor) -> None:
        """The next rows of the network's grid: (outputs, rows, y, x), before softmax or sigmoid."""
        axes_of_image = (0, *(axis + 1 for axis in self._trace.transpose))
        cropped = self._whole.transpose(axes_of_image)[(slice(None), *self._trace.box.slices())]
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
            cropped[:, start:stop] = probabilities.half().cpu().numpy()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if kind is None:
                self._stream.check_complete()
                self._pack()
        finally:
            self._whole = None
            self._remove()

    def _pack(self) -> None:
        with (
            atomic_path(self._path, durable=False) as temporary,
            zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
            archive.open("probabilities.npy", "w", force_zip64=True) as member,
        ):
            self._write(member)

    def _write(self, member: IO[bytes]) -> None:
        header = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.float16)), "fortran_order": False, "shape": self._shape}
        np.lib.format.write_array_header_1_0(member, header)
        flat = self._whole.reshape(-1)
        step = PIECE_BYTES // 2
        for first in range(0, flat.size, step):
            member.write(flat[first : first + step].tobytes())

    def _remove(self) -> None:
        if self._draft is not None:
            with suppress(OSError):
                self._draft.close()
