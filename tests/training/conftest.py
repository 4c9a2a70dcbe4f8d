"""What the tests of training share: formulas for inputs, nnU-Net's numbers for them, and a tiny prepared dataset."""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autounet.geometry import Box, Grid, Trace
from autounet.labels import LabelSpec, StructureClass
from autounet.plan import Configuration, NetworkSpec, Normalization
from autounet.preprocessing.store import Store, StoredCase

GOLDEN = Path(__file__).parents[1] / "golden"


def _wave(shape: Sequence[int], phase: float) -> np.ndarray:
    index = np.arange(math.prod(shape), dtype=np.float64)
    return np.sin(0.7 * index + phase + 0.001 * index**2).reshape(shape)


def _label_map(shape: Sequence[int], labels: int) -> np.ndarray:
    smooth = sum(np.sin(0.9 * axis + 1.3 * position) for position, axis in enumerate(np.indices(shape)))
    return np.clip(((smooth / len(shape) + 1) / 2 * labels).astype(np.int16), 0, labels - 1)


@pytest.fixture(scope="session")
def wave() -> Callable[[Sequence[int], float], np.ndarray]:
    """Shape, phase → values from -1 to 1; as in benchmarks/golden/nnunet_training.py."""
    return _wave


@pytest.fixture(scope="session")
def label_map() -> Callable[[Sequence[int], int], np.ndarray]:
    """Shape, number of labels → blobs of 0 .. n - 1; as in benchmarks/golden/nnunet_training.py."""
    return _label_map


@pytest.fixture(scope="session")
def nnunet() -> dict[str, list[Any]]:
    """nnU-Net's numbers; benchmarks/golden/nnunet_training.py makes them."""
    return json.loads((GOLDEN / "nnunet_training.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder of golden files."""
    return GOLDEN


@pytest.fixture(scope="session")
def two_labels() -> LabelSpec:
    """Background, a ball and a shell."""
    return LabelSpec(classes=(StructureClass(name="ball", values=(1,)), StructureClass(name="shell", values=(2,))))


def tiny_configuration(ndim: int = 3, side: int = 16, channels: int = 1, use_mask: bool = False) -> Configuration:
    """Two stages of 4 and 8 features; small enough for a step in milliseconds."""
    return Configuration(
        name=f"{ndim}d",
        spacing_mm=(1.0,) * ndim,
        median_shape=(24.0,) * ndim,
        patch_size=(side,) * ndim,
        batch_size=2,
        batch_dice=False,
        normalization=(Normalization(scheme="zscore", use_mask=use_mask),) * channels,
        network=NetworkSpec(
            kind="plain",
            ndim=ndim,
            in_channels=channels,
            outputs=3,
            features=(4, 8, 8),
            strides=((1,) * ndim, (2,) * ndim, (2,) * ndim),
            kernel_sizes=((3,) * ndim,) * 3,
            blocks_encoder=(1, 1, 1),
            blocks_decoder=(1, 1),
        ),
        mirror_axes=tuple(range(ndim)),
        decisions=(),
    )


@pytest.fixture(scope="session")
def configuration() -> Callable[..., Configuration]:
    """Makes a tiny configuration: ``ndim``, ``side``, ``channels``, ``use_mask``."""
    return tiny_configuration


def write_cases(
    folder: Path, labels: LabelSpec, shapes: Sequence[tuple[int, int, int]], channels: int = 1, border: bool = False, previous: bool = False
) -> tuple[Store, list[StoredCase]]:
    """Cases of noise with a bright ball (1) in a dim shell (2), prepared; border weights are half the label.

    With ``previous`` a cascade's first stage has predicted the ball as shell and the shell as ball.
    """
    store, stored = Store(folder, "recipe"), []
    for number, shape in enumerate(shapes):
        rng = np.random.default_rng(number)
        centre = np.array(shape) / 2 + rng.uniform(-2, 2, 3)
        radius = np.sqrt(sum((axis - middle) ** 2 for axis, middle in zip(np.indices(shape), centre, strict=True)))
        truth = np.where(radius < 4, 1, np.where(radius < 7, 2, 0)).astype(np.uint8)
        image = rng.normal(0, 0.3, (channels, *shape)) + np.array([0.0, 3.0, 1.5])[truth]
        grid = Grid(shape_zyx=shape, spacing_mm_zyx=(1.0, 1.0, 1.0))
        trace = Trace(grid=grid, transpose=(0, 1, 2), box=Box(start=(0, 0, 0), stop=shape), prepared_shape=shape)
        weights = (0.5 * truth).astype(np.float16) if border else None
        told = np.array([0, 2, 1], np.uint8)[truth] if previous else None
        arrays = image.astype(np.float32), truth
        stored.append(store.write(f"case_{number}", *arrays, trace, labels, (), (16, 16, 16), weights, previous_zyx=told))
    return store, stored


@pytest.fixture(scope="session")
def cases_of() -> Callable[..., tuple[Store, list[StoredCase]]]:
    """Writes prepared cases: folder, labels, shapes, ``channels``, ``border``, ``previous``."""
    return write_cases


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory, two_labels: LabelSpec) -> tuple[Store, list[StoredCase]]:
    """Six prepared cases of about 24³ voxels."""
    shapes = [(24, 24, 24), (20, 26, 22), (22, 22, 28), (26, 20, 24), (24, 22, 20), (20, 20, 20)]
    return write_cases(tmp_path_factory.mktemp("prepared"), two_labels, shapes)
