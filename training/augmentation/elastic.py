"""Elastic deformation and rotation of Ronneberger et al. 2015 (section 3.1), within the plane of the last two axes.

"We generate smooth deformations using random displacement vectors on a coarse 3 by 3 grid. The displacements are sampled from a
Gaussian distribution with 10 pixels standard deviation. Per-pixel displacements are then computed using bicubic interpolation."
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from autounet.training.augmentation.resample import resample

GRID = 3
DISPLACEMENT_PX = 10.0
"""Standard deviation of each component, in pixels of the network's grid."""


@dataclass(frozen=True, slots=True)
class ElasticDraw:
    """Per sample: displacements at the nodes of a coarse grid over the patch, and a turn about its centre."""

    displacements_px: npt.NDArray[np.float64]
    """(n, 2, 3, 3): along y and x, at the patch's corners, the middles of its edges and its centre."""
    angles_rad: npt.NDArray[np.float64]
    """(n,)"""

    def part(self, samples: range) -> "ElasticDraw":
        """The draw of some samples of the batch."""
        return ElasticDraw(self.displacements_px[samples.start : samples.stop], self.angles_rad[samples.start : samples.stop])


def draw_elastic(rng: np.random.Generator, count: int) -> ElasticDraw:
    """Draws a deformation and a turn by any angle for every sample."""
    displacements = rng.normal(0.0, DISPLACEMENT_PX, (count, 2, GRID, GRID))
    return ElasticDraw(displacements, rng.uniform(-math.pi, math.pi, count))


def displacement_field(displacements_px: Tensor, size: tuple[int, int]) -> Tensor:
    """Bicubic interpolation of nodes (n, 2, 3, 3) to a displacement of every pixel (n, 2, *size); corner nodes are corner pixels."""
    return torch.nn.functional.interpolate(displacements_px, size, mode="bicubic", align_corners=True)


def apply_elastic(image: Tensor, labels: Tensor, draw: ElasticDraw, patch_size: tuple[int, ...], mirrored: bool) -> tuple[Tensor, Tensor]:
    """Cuts patches out of the loaded ones, deformed and turned.

    Args:
        image: (n, c, *loaded) float32; sampled linearly.
        labels: (n, *loaded) or (n, m, *loaded) int16; sampled as by ``resample``.
        draw: From ``draw_elastic``.
        patch_size: Size of the result. Of a volume every slice is deformed alike and the first axis is only cut.
        mirrored: Beyond the loaded patch lies its mirror image, else zero and OUTSIDE.
    """
    before = len(patch_size) - 2
    for axis, side in enumerate(patch_size[:before]):
        first = (labels.shape[axis - len(patch_size)] - side) // 2
        image, labels = image.narrow(axis - len(patch_size), first, side), labels.narrow(axis - len(patch_size), first, side)
    rows, columns = labels.shape[-2:]
    at = _positions(draw, (rows, columns), (patch_size[-2], patch_size[-1]), image.device)
    return resample(image, labels, at.unbind(1), mirrored)


def _positions(draw: ElasticDraw, loaded: tuple[int, int], patch: tuple[int, int], device: torch.device) -> Tensor:
    """Where in the loaded plane every pixel of the patch comes from: (n, 2, *patch), y and x in pixels."""
    field = displacement_field(torch.from_numpy(draw.displacements_px).to(device, torch.float32, non_blocking=device.type == "cuda"), patch)
    axes = [torch.arange(side, device=device) - (side - 1) / 2 for side in patch]
    moved = torch.stack(torch.meshgrid(*axes, indexing="ij")) + field
    positions = []
    for (y, x), angle in zip(moved, draw.angles_rad.tolist(), strict=True):
        sine, cosine = math.sin(angle), math.cos(angle)
        turned = (y * cosine - x * sine + (loaded[0] - 1) / 2, y * sine + x * cosine + (loaded[1] - 1) / 2)
        positions.append(torch.stack(turned))
    return torch.stack(positions)
