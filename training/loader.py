"""Batches of raw patches, read by threads in an order that depends on the seed alone."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from autounet.errors import AutounetError
from autounet.geometry import Triple, mirror_indices
from autounet.parallel import map_ordered
from autounet.preprocessing.case import OUTSIDE
from autounet.preprocessing.store import OpenCase, Store, StoredCase
from autounet.training.sampler import CaseSummary, PatchRequest, draw_batch

CACHE_BYTES = 2 * 2**30
"""A loader keeps its prepared cases in memory if they fit into this; a training has two loaders."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Patches as read: not augmented, larger than the network's patch."""

    image: Tensor
    """(n, c, *loaded) float32, zero outside the case or its mirror image."""
    labels: Tensor
    """(n, *loaded) int16 label indices, OUTSIDE outside the case or their mirror image."""
    cases: tuple[str, ...]
    border: Tensor | None = None
    """(n, 1, *loaded) float32 border weights, of plans whose loss has such."""


class BatchLoader:
    """Draws and reads batches.

    Args:
        store: Where the cases are.
        cases: The fold's cases.
        batch_size: Samples in a batch.
        loaded: Patch size to read, one entry per network axis.
        patch_size: The part in the middle that the network scores: kept inside the case, or around foreground.
        workers: Threads; 0 reads in the calling thread. The batches are the same for any number.
        stream: Tells generators of training and validation apart.
        seed: Of the run.
        pinned: Batches lie in page-locked memory, from which copies to a CUDA device run in the background.
        mirrored: Cases go on as their mirror image beyond their edges, else as zeros and OUTSIDE.
    """

    def __init__(
        self,
        store: Store,
        cases: Sequence[StoredCase],
        *,
        batch_size: int,
        loaded: Sequence[int],
        patch_size: Sequence[int],
        workers: int,
        stream: int,
        seed: int,
        pinned: bool = False,
        mirrored: bool = False,
    ) -> None:
        self._pinned, self._mirrored = pinned, mirrored
        self._planar = len(patch_size) == 2
        self._loaded, self._patch = _three(loaded), _three(patch_size)
        self._batch_size, self._workers, self._stream, self._seed = batch_size, workers, stream, seed
        opened = [store.open(case) for case in cases]
        needed = sum(math.prod(array.shape) * int(array.dtype.itemsize) for case in opened for array in case.arrays)
        self._cases: list[OpenCase] = [case.in_memory() for case in opened] if needed <= CACHE_BYTES else opened
        self._summaries = [
            CaseSummary(stored.trace.prepared_shape, case.foreground) for stored, case in zip(cases, self._cases, strict=True)
        ]

    def batches(self, epoch: int, count: int) -> Iterator[Batch]:
        """The ``count`` batches of an epoch, the same for every run of the same seed."""
        for _, batch in map_ordered(lambda index: self._read(epoch, index), range(count), self._workers):
            if isinstance(batch, AutounetError):
                raise batch
            yield batch

    def _read(self, epoch: int, index: int) -> Batch:
        rng = np.random.default_rng([self._seed, self._stream, epoch, index])
        requests = draw_batch(rng, self._summaries, self._batch_size, self._loaded, self._patch)
        channels = self._cases[0].image.shape[0]
        image = np.zeros((len(requests), channels, *self._loaded), np.float32)
        labels = np.full((len(requests), *self._loaded), OUTSIDE, np.int16)
        border = None if self._cases[0].border is None else np.zeros((len(requests), 1, *self._loaded), np.float32)
        for sample, request in enumerate(requests):
            weights = None if border is None else border[sample, 0]
            copy_patch(self._cases[request.case], request, image[sample], labels[sample], weights, self._mirrored)
        names = tuple(self._cases[request.case].case for request in requests)
        border_tensor = None if border is None else self._tensor(border)
        return Batch(self._tensor(image), self._tensor(labels), names, border_tensor)

    def _tensor(self, array: npt.NDArray[Any]) -> Tensor:
        """Without the axis of one slice where the network is planar."""
        tensor = torch.from_numpy(array.squeeze(-3) if self._planar else array)
        return tensor.pin_memory() if self._pinned else tensor


def copy_patch(
    case: OpenCase,
    request: PatchRequest,
    image: npt.NDArray[np.float32],
    labels: npt.NDArray[Any],
    border: npt.NDArray[np.float32] | None = None,
    mirrored: bool = False,
) -> None:
    """Copies the part of a patch that lies inside the case; of each array only the box that is needed is read.

    Beyond the case ``image``, ``labels`` and ``border`` stay as they are or, where ``mirrored``, get its mirror image.
    """
    source: list[slice] = []
    target: list[Any] = []
    for start, side, size in zip(request.start, labels.shape, case.labels.shape, strict=True):
        low, high = max(start, 0), min(start + side, size)
        if mirrored:
            at = mirror_indices(start, side, size)
            low, high = int(at.min()), int(at.max()) + 1
            target.append(at - low)
        elif low >= high:
            return
        else:
            target.append(slice(low - start, high - start))
        source.append(slice(low, high))
    for array, patch in ((case.image, image), (case.labels, labels), (case.border, border)):
        if patch is None:
            continue
        lead = (slice(None),) * (patch.ndim - 3)
        box = array[(*lead, *source)]
        if mirrored:
            patch[...] = box[(*lead, *np.ix_(*target))]
        else:
            patch[(*lead, *target)] = box


def _three(size: Sequence[int]) -> Triple:
    z, y, x = size if len(size) == 3 else (1, *size)
    return z, y, x
