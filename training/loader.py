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
from autounet.geometry import Triple
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
    """(n, c, *loaded) float32, zero outside the case."""
    labels: Tensor
    """(n, *loaded) int16 label indices, OUTSIDE outside the case."""
    cases: tuple[str, ...]


class BatchLoader:
    """Draws and reads batches.

    Args:
        store: Where the cases are.
        cases: The fold's cases.
        batch_size: Samples in a batch.
        loaded: Patch size to read, one entry per network axis.
        patch_size: The network's patch size.
        workers: Threads; 0 reads in the calling thread. The batches are the same for any number.
        stream: Tells generators of training and validation apart.
        seed: Of the run.
        pinned: Batches lie in page-locked memory, from which copies to a CUDA device run in the background.
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
    ) -> None:
        self._pinned = pinned
        self._planar = len(patch_size) == 2
        self._loaded, self._patch = _three(loaded), _three(patch_size)
        self._batch_size, self._workers, self._stream, self._seed = batch_size, workers, stream, seed
        opened = [store.open(case) for case in cases]
        needed = sum(math.prod(array.shape) * int(array.dtype.itemsize) for case in opened for array in (case.image, case.labels))
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
        for sample, request in enumerate(requests):
            copy_patch(self._cases[request.case], request, image[sample], labels[sample])
        if self._planar:
            image, labels = image[:, :, 0], labels[:, 0]
        names = tuple(self._cases[request.case].case for request in requests)
        batch = Batch(torch.from_numpy(image), torch.from_numpy(labels), names)
        return Batch(batch.image.pin_memory(), batch.labels.pin_memory(), names) if self._pinned else batch


def copy_patch(case: OpenCase, request: PatchRequest, image: npt.NDArray[np.float32], labels: npt.NDArray[Any]) -> None:
    """Copies the part of a patch that lies inside the case; the rest of ``image`` and ``labels`` stays as it is."""
    source, target = [], []
    for start, side, size in zip(request.start, labels.shape, case.labels.shape, strict=True):
        low, high = max(start, 0), min(start + side, size)
        if low >= high:
            return
        source.append(slice(low, high))
        target.append(slice(low - start, high - start))
    image[(slice(None), *target)] = case.image[(slice(None), *source)]
    labels[tuple(target)] = case.labels[tuple(source)]


def _three(size: Sequence[int]) -> Triple:
    z, y, x = size if len(size) == 3 else (1, *size)
    return z, y, x
