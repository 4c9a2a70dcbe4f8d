"""Batches of raw patches, read by threads in an order that depends on the seed alone."""

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from autounet.errors import AutounetError
from autounet.geometry import Triple, mirror_indices
from autounet.memory import available_bytes
from autounet.parallel import map_ordered
from autounet.preprocessing.case import OUTSIDE
from autounet.preprocessing.store import OpenCase, Store, StoredCase
from autounet.runtime import ALONE, Processes
from autounet.training.distributed import own_samples
from autounet.training.sampler import CaseSummary, PatchRequest, draw_batch

CPU = torch.device("cpu")

NUMPY = {torch.float32: np.float32, torch.int16: np.int16, torch.float16: np.float16}

CACHE_SHARE = 0.25
"""Prepared cases stay in memory if they fit into this share of what is free there; a training has two loaders, a machine perhaps several
processes."""

GPU_SHARE = 0.05
"""They stay on a GPU if they fit into this share of its memory, most of which is for the network."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Patches as read: not augmented, larger than the network's patch."""

    image: Tensor
    """(n, c, *loaded) float32, zero outside the case or its mirror image."""
    labels: Tensor
    """(n, *loaded) int16 label indices, OUTSIDE outside the case or their mirror image."""
    cases: tuple[str, ...]
    """Of the whole batch, whoever reads them."""
    border: Tensor | None = None
    """(n, 1, *loaded) float32 border weights, of plans whose loss has such."""
    known: Tensor | None = None
    """(n, classes) bool: which classes are annotated; None where all are, in every case of the fold."""
    previous: Tensor | None = None
    """(n, *loaded) int16 label indices that a cascade's first stage has predicted, beyond the case as ``labels``; None where there are
    none."""


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
        device: Where the batches go. On a CUDA device cases are kept there if they fit; else batches lie in page-locked memory, from
            which copies run in the background.
        mirrored: Cases go on as their mirror image beyond their edges, else as zeros and OUTSIDE.
        processes: Share the batches; each reads its own samples.

    Raises:
        ArtefactError: A prepared case cannot be read.
        UsageError: There are more processes than samples in a batch.
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
        device: torch.device = CPU,
        mirrored: bool = False,
        processes: Processes = ALONE,
    ) -> None:
        self._mirrored, self._planar = mirrored, len(patch_size) == 2
        self._loaded, self._patch = _three(loaded), _three(patch_size)
        self._batch_size, self._own = batch_size, own_samples(batch_size, processes)
        self._workers, self._stream, self._seed = workers, stream, seed
        self._pinned, self._device = device.type == "cuda", CPU
        self._cases: list[OpenCase] = [store.open(case) for case in cases]
        self._summaries = [
            CaseSummary(stored.trace.prepared_shape, case.foreground, case.annotated_voxels)
            for stored, case in zip(cases, self._cases, strict=True)
        ]
        self._known = _known_classes(cases)
        self.kept = "read from disk as needed"
        """Where the cases are, in words."""
        self._keep(device, processes)

    @property
    def batch_size(self) -> int:
        """Samples in a batch, of all processes together."""
        return self._batch_size

    @property
    def own(self) -> range:
        """Those that this process reads."""
        return self._own

    @property
    def has_foreground(self) -> bool:
        """Whether any case has a voxel of any class."""
        return any(len(voxels) for case in self._cases for voxels in case.foreground)

    def batches(self, epoch: int, count: int, first: int = 0) -> Generator[Batch]:
        """The ``count`` batches of an epoch from number ``first`` on, the same for every run of the same seed."""
        inline = self._workers == 0 or self._device.type != "cpu"
        for _, batch in map_ordered(lambda index: self._read(epoch, index), range(first, count), 0 if inline else self._workers):
            if isinstance(batch, AutounetError):
                raise batch
            yield batch

    def _keep(self, device: torch.device, processes: Processes) -> None:
        """Reads all cases onto the device, or else into memory, if they fit."""
        needed = sum(math.prod(array.shape) * int(array.dtype.itemsize) for case in self._cases for array in case.arrays)
        if device.type == "cuda" and not self._mirrored and needed <= GPU_SHARE * torch.cuda.mem_get_info(device)[0]:
            self._cases = [_on_device(case, device) for case in self._cases]
            self._device, self._pinned, self.kept = device, False, "kept on the GPU"
        elif needed * processes.local_count <= CACHE_SHARE * available_bytes():
            self._cases = [case.in_memory() for case in self._cases]
            self.kept = "kept in memory"

    def _read(self, epoch: int, index: int) -> Batch:
        rng = np.random.default_rng([self._seed, self._stream, epoch, index])
        every = draw_batch(rng, self._summaries, self._batch_size, self._loaded, self._patch)
        requests = every[self._own.start : self._own.stop]
        count, channels = len(requests), self._cases[0].image.shape[0]
        image = torch.zeros((count, channels, *self._loaded), device=self._device)
        labels = torch.full((count, *self._loaded), OUTSIDE, dtype=torch.int16, device=self._device)
        previous = labels[: 0 if self._cases[0].previous is None else count].clone()
        border = torch.zeros((0 if self._cases[0].border is None else count, 1, *self._loaded), device=self._device)
        # On the CPU the arrays are filled through numpy, which leaves torch's threads to the network.
        images, maps, weights, before = (each.numpy() if self._device.type == "cpu" else each for each in (image, labels, border, previous))
        for sample, request in enumerate(requests):
            weight = weights[sample, 0] if len(weights) else None
            told = before[sample] if len(before) else None
            copy_patch(self._cases[request.case], request, images[sample], maps[sample], weight, told, mirrored=self._mirrored)
        names = tuple(self._cases[request.case].case for request in every)
        known = None if self._known is None else self._known[[request.case for request in requests]]
        return Batch(
            self._finished(image),
            self._finished(labels),
            names,
            self._finished(border) if len(border) else None,
            known,
            self._finished(previous) if len(previous) else None,
        )

    def _finished(self, tensor: Tensor) -> Tensor:
        """Without the axis of one slice where the network is planar."""
        tensor = tensor.squeeze(-3) if self._planar else tensor
        return tensor.pin_memory() if self._pinned else tensor


def _known_classes(cases: Sequence[StoredCase]) -> Tensor | None:
    """(cases, classes) bool: which classes are annotated; None where all are, in every case."""
    if all(case.annotated is None for case in cases):
        return None
    known = torch.ones((len(cases), len(cases[0].foreground_counts)), dtype=torch.bool)
    for row, case in zip(known, cases, strict=True):
        if case.annotated is not None:
            row[:] = False
            row[list(case.annotated)] = True
    return known


def _on_device(case: OpenCase, device: torch.device) -> OpenCase:
    """The same case with its arrays as tensors on a device; labels as int16, which every device knows."""

    def moved(array: Any, dtype: torch.dtype) -> Any:
        return None if array is None else torch.from_numpy(np.ascontiguousarray(array[:]).astype(NUMPY[dtype])).to(device)

    return replace(
        case,
        image=moved(case.image, torch.float32),
        labels=moved(case.labels, torch.int16),
        border=moved(case.border, torch.float16),
        previous=moved(case.previous, torch.int16),
    )


def copy_patch(
    case: OpenCase, request: PatchRequest, image: Any, labels: Any, border: Any = None, previous: Any = None, *, mirrored: bool = False
) -> None:
    """Copies the part of a patch that lies inside the case; of each array only the box that is needed is read.

    ``image`` (c, z, y, x), ``labels``, ``border`` and ``previous`` (z, y, x) are numpy arrays or, where the case's are, tensors on its
    device.

    Beyond the case they stay as they are or, where ``mirrored``, get its mirror image.
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
    for array, patch in ((case.image, image), (case.labels, labels), (case.border, border), (case.previous, previous)):
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
