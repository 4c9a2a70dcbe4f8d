"""The whole augmentation of a batch: draw everything on the host, then apply it on the device."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from autounet.plan import Configuration
from autounet.training.augmentation.intensity import IntensityDraw, intensity_transforms
from autounet.training.augmentation.spatial import SpatialDraw, apply_mirror, apply_spatial, draw_spatial
from autounet.training.sampler import rotation_rule


@dataclass(frozen=True, slots=True)
class AugmentationDraw:
    """All random choices for one batch."""

    spatial: SpatialDraw
    intensity: tuple[IntensityDraw, ...]
    flips: npt.NDArray[np.bool_]
    """(n, d)"""


class Augmentation:
    """nnU-Net's default augmentation for one configuration.

    Args:
        configuration: Decides patch size, rotation range and which channels are masked.
        mirror_axes: Spatial axes that may be mirrored.
    """

    def __init__(self, configuration: Configuration, mirror_axes: tuple[int, ...]) -> None:
        self._patch_size = configuration.patch_size
        self._rule = rotation_rule(configuration.patch_size)
        self._transforms = intensity_transforms(self._rule.within_slices)
        self._mirror_axes = mirror_axes
        self._masked_channels = [index for index, scheme in enumerate(configuration.normalization) if scheme.use_mask]

    def draw(self, rng: np.random.Generator, samples: int, channels: int) -> AugmentationDraw:
        """Draws the choices for a batch of ``samples``."""
        ndim = len(self._patch_size)
        spatial = draw_spatial(rng, samples, ndim, self._rule.max_angle_rad, self._rule.within_slices)
        intensity = tuple(transform.draw(rng, samples, channels, ndim) for transform in self._transforms)
        flips = np.zeros((samples, ndim), bool)
        flips[:, list(self._mirror_axes)] = rng.random((samples, len(self._mirror_axes))) < 0.5
        return AugmentationDraw(spatial, intensity, flips)

    def apply(self, image: Tensor, labels: Tensor, draw: AugmentationDraw) -> tuple[Tensor, Tensor]:
        """Loaded patches (n, c, *loaded), (n, *loaded) → the network's (n, c, *patch) and label indices ≥ 0 (n, *patch)."""
        image, labels = apply_spatial(image, labels, draw.spatial, self._patch_size)
        for transform, drawn in zip(self._transforms, draw.intensity, strict=True):
            image = transform.apply(image, drawn)
        image, labels = apply_mirror(image, labels, draw.flips)
        if self._masked_channels:
            inside = (labels >= 0)[:, None]
            image[:, self._masked_channels] *= inside
        return image, labels.clamp_(min=0)
