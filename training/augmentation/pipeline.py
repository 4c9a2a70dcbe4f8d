"""The whole augmentation of a batch: draw everything on the host, then apply it on the device."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from autounet.networks.previous import insert_channels, one_hot
from autounet.networks.scored import is_unpadded
from autounet.plan import Configuration
from autounet.preset import AugmentationKind
from autounet.rotation import rotation_rule
from autounet.training.augmentation.cascade import CascadeDraw, apply_cascade, draw_cascade
from autounet.training.augmentation.elastic import ElasticDraw, apply_elastic, draw_elastic
from autounet.training.augmentation.intensity import IntensityDraw
from autounet.training.augmentation.policy import POLICIES
from autounet.training.augmentation.spatial import SpatialDraw, apply_mirror, apply_spatial, draw_spatial


@dataclass(frozen=True, slots=True)
class AugmentationDraw:
    """All random choices for one batch."""

    spatial: SpatialDraw | ElasticDraw
    intensity: tuple[IntensityDraw, ...]
    flips: npt.NDArray[np.bool_]
    """(n, d)"""
    cascade: CascadeDraw | None = None
    """For the second stage of a cascade."""

    def part(self, samples: range) -> "AugmentationDraw":
        """The draw of some samples of the batch (consecutive ones): gives them what the whole draw gives them, bit for bit on a CPU.

        So several processes can share a batch: each makes the draw of the whole, and applies its own part.
        """
        intensity = tuple(drawn.part(samples) for drawn in self.intensity)
        cascade = None if self.cascade is None else self.cascade.part(samples)
        return AugmentationDraw(self.spatial.part(samples), intensity, self.flips[samples.start : samples.stop], cascade)


class Augmentation:
    """The augmentation of one configuration.

    Args:
        configuration: Decides patch size, rotation range and which channels are masked.
        mirror_axes: Spatial axes that may be mirrored.
        kind: The plan's choice; see ``POLICIES``.
    """

    def __init__(self, configuration: Configuration, mirror_axes: tuple[int, ...], kind: AugmentationKind = "nnunet") -> None:
        self._patch_size, self._policy = configuration.patch_size, POLICIES[kind]
        self._mirrored = is_unpadded(configuration.network)
        self._rule = rotation_rule(configuration.patch_size)
        self._mirror_axes = mirror_axes
        self._channels = len(configuration.normalization)
        self._previous_labels = configuration.network.in_channels - self._channels if configuration.previous_stage is not None else 0
        self._masked_channels = [index for index, scheme in enumerate(configuration.normalization) if scheme.use_mask]

    def draw(self, rng: np.random.Generator, samples: int, channels: int) -> AugmentationDraw:
        """Draws the choices for a batch of ``samples``."""
        ndim, policy = len(self._patch_size), self._policy
        if policy.spatial == "elastic":
            spatial: SpatialDraw | ElasticDraw = draw_elastic(rng, samples)
        else:
            spatial = draw_spatial(rng, samples, ndim, policy.spatial, self._rule)
        intensity = tuple(each.draw(rng, samples, channels, ndim, self._rule.within_slices) for each in policy.intensity)
        flips = np.zeros((samples, ndim), bool)
        flips[:, list(self._mirror_axes)] = rng.random((samples, len(self._mirror_axes))) < policy.mirror_probability
        cascade = draw_cascade(rng, samples, self._previous_labels, policy.cascade) if self._previous_labels else None
        return AugmentationDraw(spatial, intensity, flips, cascade)

    def apply(self, image: Tensor, labels: Tensor, draw: AugmentationDraw, previous: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Loaded patches (n, c, *loaded), (n, *loaded) → the network's (n, c, *patch) and label indices ≥ 0 (n, *patch).

        Channels beyond those that ``draw`` was told of are moved with the others, but keep their values: maps of weights.

        ``previous``, for the second stage of a cascade: the label indices (n, *loaded) that the stage before has predicted, int16,
        OUTSIDE or 0 where there is no case. They become one channel for each foreground label, changed as drawn, after the image's.
        """
        if previous is not None:
            labels = torch.stack((labels, previous), 1)
        if isinstance(draw.spatial, ElasticDraw):
            image, labels = apply_elastic(image, labels, draw.spatial, self._patch_size, self._mirrored)
        else:
            image, labels = apply_spatial(image, labels, draw.spatial, self._patch_size, self._mirrored)
        for transform, drawn in zip(self._policy.intensity, draw.intensity, strict=True):
            image = transform.apply(image, drawn)
        image, labels = apply_mirror(image, labels, draw.flips)
        if previous is not None:
            labels, previous = labels.unbind(1)
        if self._masked_channels:
            inside = labels >= 0
            for channel in self._masked_channels:
                image[:, channel] *= inside
        if previous is not None and draw.cascade is not None:
            channels = one_hot(previous, self._previous_labels, image.dtype)
            channels = apply_cascade(channels, draw.cascade, self._policy.cascade)
            image = insert_channels(image, channels, self._channels)
        return image, labels.clamp(min=0)
