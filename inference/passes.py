"""Tiles → scores: mirrored copies and tiles in common batches, and what to do when memory runs out."""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from autounet.device import free_cached, is_out_of_memory
from autounet.inference.tiles import Tile

log = logging.getLogger(__name__)

Forward = Callable[[Tensor], Tensor]
"""(n, c, *patch) → scores (n, outputs, *patch or less), float32."""


@dataclass(slots=True)
class _Awaited:
    """A tile, in its turn, until all its copies are scored."""

    tile: Tile
    missing: int
    """Copies without scores."""
    total: Tensor | None = None
    constant: tuple[float, ...] | None = None
    """The values of the channels where each has one value only."""


@dataclass(frozen=True, slots=True)
class _Copy:
    of: _Awaited
    patch: Tensor
    mirrored: tuple[int, ...]
    """Axes of the patch, channels included."""


class TileScorer:
    """The mean scores of tiles over their mirrored copies.

    Args:
        forward: The network.
        device: Where it is.
        mirror_axes: Patch axes; the mean is over all combinations.
        batch_size: Copies in one forward pass, of one tile or several. Halved, for good, when memory runs out.
        relieve: Asked when a pass of one copy runs out of memory: whether something was given up, so that another try is worthwhile.
    """

    def __init__(
        self, forward: Forward, device: torch.device, mirror_axes: tuple[int, ...], batch_size: int, relieve: Callable[[], bool]
    ) -> None:
        self._forward, self._device, self._batch_size, self._relieve = forward, device, batch_size, relieve
        self._copies = [
            tuple(axis + 1 for axis, chosen in zip(mirror_axes, picked, strict=True) if chosen)
            for picked in product((False, True), repeat=len(mirror_axes))
        ]
        self._order: deque[_Awaited] = deque()
        self._waiting: deque[_Copy] = deque()
        self._constant: tuple[tuple[float, ...], Tensor] | None = None

    def scores(self, patches: Iterable[tuple[Tile, Tensor]]) -> Iterator[tuple[Tile, Tensor]]:
        """Tiles with what the network sees there, (c, *patch) → tiles with their scores (outputs, *scored) float32, in order.

        Tiles of one and the same value per channel, such as the air around a patient, have the same scores: they are computed once
        as long as the value stays the same.
        """
        value: tuple[float, ...] | None = None
        for tile, patch in patches:
            constant = _constant(patch)
            known = constant is not None and constant == value
            value = constant if constant is not None else value
            entry = _Awaited(tile, 0 if known else len(self._copies), None, constant)
            self._order.append(entry)
            if not known:
                there = patch.to(self._device, non_blocking=True)
                self._waiting.extend(_Copy(entry, there, axes) for axes in self._copies)
            while len(self._waiting) >= self._batch_size:
                self._pass()
            yield from self._finished()
        while self._waiting:
            self._pass()
        yield from self._finished()

    def _finished(self) -> Iterator[tuple[Tile, Tensor]]:
        while self._order and not self._order[0].missing:
            entry = self._order.popleft()
            if entry.total is None:
                assert self._constant is not None
                assert self._constant[0] == entry.constant
                yield entry.tile, self._constant[1]
                continue
            with torch.no_grad():
                entry.total /= len(self._copies)
            if entry.constant is not None:
                self._constant = entry.constant, entry.total
            yield entry.tile, entry.total

    def _pass(self) -> None:
        """Scores the first copies that wait, and adds them to their tiles' sums; nothing is added unless all of it succeeds."""
        while True:
            chosen = [self._waiting[index] for index in range(min(self._batch_size, len(self._waiting)))]
            reason = self._attempt(chosen)
            if reason is None:
                break
            free_cached()
            if len(chosen) > 1:
                self._batch_size = len(chosen) // 2
                log.warning("out of memory with %d patches in a pass; going on with %d (%s)", len(chosen), self._batch_size, reason)
            elif self._relieve():
                log.warning("out of memory with one patch in a pass; scores are summed in the host's memory from here on (%s)", reason)
            else:
                raise MemoryError(reason)
        for _ in chosen:
            self._waiting.popleft()

    @torch.no_grad()
    def _attempt(self, chosen: list[_Copy]) -> str | None:
        """One forward pass; returns the reason where memory ran out. The error itself would keep what fills the memory alive."""
        try:
            scores = self._forward(torch.stack([copy.patch.flip(copy.mirrored) if copy.mirrored else copy.patch for copy in chosen]))
            # Made before any is added: a failure half-way must not count copies twice.
            turned = [score.flip(copy.mirrored).float() for score, copy in zip(scores, chosen, strict=True)]
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            return str(error).strip().split("\n")[0] or type(error).__name__
        for score, copy in zip(turned, chosen, strict=True):
            copy.of.total = score if copy.of.total is None else copy.of.total.add_(score)
            copy.of.missing -= 1
        return None


def _constant(patch: Tensor) -> tuple[float, ...] | None:
    """The values of a patch's channels where each channel has one value only."""
    middle = (slice(None), *(slice(side // 2, side // 2 + 1) for side in patch.shape[1:]))
    first = patch[(slice(None), *(slice(1),) * (patch.ndim - 1))]
    # Most patches are told by two voxels; a look at all of them is for the rest.
    if not torch.equal(patch[middle], first) or not bool((patch == first).all()):
        return None
    return tuple(first.flatten().tolist())
