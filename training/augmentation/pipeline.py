"""The whole augmentation of a batch: draw everything on the host, then apply it on the device."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from torch import Tensor

from autounet.networks.scored import is_unpadded
from autounet.plan import Configuration
from autounet.rotation import rotation_rule
from autounet.training.augmentation.elastic import ElasticDraw, apply_elastic, draw_elastic
from autounet.training.augmentation.intensity import IntensityDraw, grey_value_transforms, intensity_transforms
from autounet.training.augmentation.spatial import SpatialDraw, apply_mirror, apply_spatial, draw_spatial

AugmentationKind = Literal["nnunet", "unet2015"]
"""As in ``Plan.augmentation``."""


@dataclass(frozen=True, slots=True)
class AugmentationDraw:
    """All random choices for one batch."""

    spatial: SpatialDraw | ElasticDraw
    intensity: tuple[IntensityDraw, ...]
    flips: npt.NDArray[np.bool_]
    """(n, d)"""

    def part(self, samples: range) -> "AugmentationDraw":
        """The draw of some samples of the batch (consecutive ones): gives them what the whole draw gives them, bit for bit on a CPU.

        So several processes can share a batch: each makes the draw of the whole, and applies its own part.
        """
        intensity = tuple(drawn.part(samples) for drawn in self.intensity)
        return AugmentationDraw(self.spatial.part(samples), intensity, self.flips[samples.start : samples.stop])


class Augmentation:
    """The augmentation of one configuration.

    ``nnunet``: rotation and scaling now and then, nnU-Net's list of intensities. ``unet2015``: every patch is turned by any angle
    and deformed, and grey values change; the paper gives no numbers for these, so they are nnU-Net's.

    Args:
        configuration: Decides patch size, rotation range and which channels are masked.
        mirror_axes: Spatial axes that may be mirrored.
        kind: The plan's choice.
    """

    def __init__(self, configuration: Configuration, mirror_axes: tuple[int, ...], kind: AugmentationKind = "nnunet") -> None:
        self._patch_size, self._kind = configuration.patch_size, kind
        self._mirrored = is_unpadded(configuration.network)
        self._rule = rotation_rule(configuration.patch_size)
        self._transforms = intensity_transforms(self._rule.within_slices) if kind == "nnunet" else grey_value_transforms()
        self._mirror_axes = mirror_axes
        self._masked_channels = [index for index, scheme in enumerate(configuration.normalization) if scheme.use_mask]

    def draw(self, rng: np.random.Generator, samples: int, channels: int) -> AugmentationDraw:
        """Draws the choices for a batch of ``samples``."""
        ndim = len(self._patch_size)
        spatial = (
            draw_spatial(rng, samples, ndim, self._rule.max_angle_rad, self._rule.within_slices)
            if self._kind == "nnunet"
            else draw_elastic(rng, samples)
        )
        intensity = tuple(transform.draw(rng, samples, channels, ndim) for transform in self._transforms)
        flips = np.zeros((samples, ndim), bool)
        flips[:, list(self._mirror_axes)] = rng.random((samples, len(self._mirror_axes))) < 0.5
        return AugmentationDraw(spatial, intensity, flips)

    def apply(self, image: Tensor, labels: Tensor, draw: AugmentationDraw) -> tuple[Tensor, Tensor]:
        """Loaded patches (n, c, *loaded), (n, *loaded) → the network's (n, c, *patch) and label indices ≥ 0 (n, *patch).

        Channels beyond those that ``draw`` was told of are moved with the others, but keep their values: maps of weights.
        """
        if isinstance(draw.spatial, ElasticDraw):
            image, labels = apply_elastic(image, labels, draw.spatial, self._patch_size, self._mirrored)
        else:
            image, labels = apply_spatial(image, labels, draw.spatial, self._patch_size, self._mirrored)
        for transform, drawn in zip(self._transforms, draw.intensity, strict=True):
            image = transform.apply(image, drawn)
        image, labels = apply_mirror(image, labels, draw.flips)
        if self._masked_channels:
            inside = (labels >= 0)[:, None]
            image[:, self._masked_channels] *= inside
        return image, labels.clamp_(min=0)
