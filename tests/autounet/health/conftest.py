"""A small dataset of made-up bodies without any mistake, into which tests plant one."""

import json
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from autounet.dataset import read_dataset
from autounet.health.examine import examine
from autounet.health.findings import Health
from autounet.runtime import Runtime
from autounet.splits import five_folds

SHAPE = (20, 48, 48)
VALUES = {"kidney_left": 1, "kidney_right": 2, "bladder": 3}
AFFINE = np.diag([-2.0, -2.0, 3.0, 1.0])
"""Voxels of 3×2×2 mm (z, y, x) whose axes point to the head, the back and the left: ``SPL``."""


@dataclass
class Body:
    """One case: arrays z, y, x."""

    image: np.ndarray
    labels: np.ndarray
    affine: np.ndarray = field(default_factory=AFFINE.copy)
    label_affine: np.ndarray | None = None


def ball(centre_zyx: Sequence[float] | np.ndarray, radius_mm: float) -> np.ndarray:
    """Where a ball of this radius lies in voxels of 3×2×2 mm."""
    z, y, x = np.indices(SHAPE)
    distance = np.sqrt((3 * (z - centre_zyx[0])) ** 2 + (2 * (y - centre_zyx[1])) ** 2 + (2 * (x - centre_zyx[2])) ** 2)
    return np.asarray(distance <= radius_mm)


@cache
def body(number: int) -> Body:
    """A cylinder with a texture of its own, two bright kidneys and a dark bladder, in noisy air."""
    rng = np.random.default_rng(number)
    _, y, x = np.indices(SHAPE)
    inside = (y - 24) ** 2 + (x - 24) ** 2 <= rng.uniform(17, 19) ** 2
    texture = ndimage.gaussian_filter(rng.normal(size=SHAPE), 2)
    image = 100 + 15 * texture / texture.std()
    labels = np.zeros(SHAPE, np.uint8)
    for value, place, brightness in ((1, (10, 20, 33), 200), (2, (10, 20, 15), 200), (3, (6, 34, 24), 30)):
        where = ball(np.add(place, rng.uniform(-0.7, 0.7, 3)), rng.uniform(9, 10))
        labels[where] = value
        image = np.where(where, brightness, image)
    image = np.where(inside, image + rng.normal(0, 3, SHAPE), np.abs(rng.normal(0, 2, SHAPE)))
    return Body(np.clip(image, 0, 32000).astype(np.float32), labels)


@dataclass
class Bodies:
    """The dataset before it is written."""

    cases: dict[str, Body]
    channel: str = "MRI"
    classes: dict[str, int] = field(default_factory=lambda: dict(VALUES))
    after: list[Callable[[Path], None]] = field(default_factory=list)
    """What is done to the folder once it is written."""

    def write(self, root: Path) -> Path:
        """Writes the folder, in nnU-Net's layout."""
        for folder in ("imagesTr", "labelsTr"):
            (root / folder).mkdir(parents=True)
        for name, case in self.cases.items():
            label_affine = case.affine if case.label_affine is None else case.label_affine
            nib.save(nib.Nifti1Image(case.image.T, case.affine), root / "imagesTr" / f"{name}_0000.nii")
            nib.save(nib.Nifti1Image(case.labels.T, label_affine), root / "labelsTr" / f"{name}.nii")
        content = {"channel_names": {"0": self.channel}, "labels": {"background": 0, **self.classes}, "file_ending": ".nii"}
        (root / "dataset.json").write_text(json.dumps({**content, "numTraining": len(self.cases)}))
        for change in self.after:
            change(root)
        return root


@pytest.fixture
def bodies() -> Bodies:
    """Twelve bodies, ``body_00`` to ``body_11``, in which nothing is wrong."""
    return Bodies({f"body_{number:02d}": deepcopy(body(number)) for number in range(12)})


@pytest.fixture
def examined(tmp_path: Path) -> Callable[..., Health]:
    """Writes bodies and examines them."""

    def run(bodies: Bodies, workers: int = 2) -> Health:
        root = tmp_path / "Dataset021_Bodies"
        dataset = read_dataset(root if root.exists() else bodies.write(root))
        return examine(dataset, five_folds([case.id for case in dataset.cases]), Runtime(workers=workers))

    return run
