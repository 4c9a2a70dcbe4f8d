"""Classes that are annotated in some cases only, from the store to the loss."""

from pathlib import Path

import numpy as np
import pytest
import torch

from autounet.geometry import Box, Grid, Trace
from autounet.labels import LabelSpec
from autounet.preprocessing.store import Store, StoredCase
from autounet.training.loader import Batch, BatchLoader
from autounet.training.losses import SegmentationLoss

SHAPE = (20, 20, 20)
KNOWN = {"whole": [True, True], "ball_only": [True, False], "shell_only": [False, True]}


def truth_of() -> np.ndarray:
    """A ball (1) in a shell (2)."""
    radius = np.sqrt(sum((axis - 9.5) ** 2 for axis in np.indices(SHAPE)))
    return np.where(radius < 4, 1, np.where(radius < 7, 2, 0)).astype(np.uint8)


def write(store: Store, labels: LabelSpec, case: str) -> StoredCase:
    """A case whose image *is* the truth, so that a batch tells it, and whose label map lacks what is not annotated."""
    known, truth = KNOWN[case], truth_of()
    label_map = np.where(np.array([True, *known])[truth], truth, 0).astype(np.uint8)
    grid = Grid(shape_zyx=SHAPE, spacing_mm_zyx=(1.0, 1.0, 1.0))
    trace = Trace(grid=grid, transpose=(0, 1, 2), box=Box(start=(0, 0, 0), stop=SHAPE), prepared_shape=SHAPE)
    annotated = None if all(known) else tuple(np.flatnonzero(known).tolist())
    return store.write(case, truth[None].astype(np.float32), label_map, trace, labels, (), (16, 16, 16), None, annotated)


def batches(folder: Path, labels: LabelSpec, cases: list[str], patch: tuple[int, ...] = (16, 16, 16), count: int = 6) -> list[Batch]:
    store = Store(folder, "recipe")
    stored = [write(store, labels, case) for case in cases]
    loader = BatchLoader(store, stored, batch_size=2, loaded=patch, patch_size=patch, workers=0, stream=0, seed=1)
    return list(loader.batches(0, count))


@pytest.mark.parametrize("patch", [(16, 16, 16), (16, 16)])
def test_a_batch_says_which_classes_are_annotated_in_each_sample(two_labels: LabelSpec, tmp_path: Path, patch: tuple[int, ...]) -> None:
    found = batches(tmp_path, two_labels, ["whole", "ball_only"], patch)
    for batch in found:
        assert batch.known is not None
        assert batch.known.dtype == torch.bool
        assert batch.known.tolist() == [KNOWN[case] for case in batch.cases]
    assert {case for batch in found for case in batch.cases} == {"whole", "ball_only"}


def test_nothing_is_said_where_all_is_annotated(two_labels: LabelSpec, tmp_path: Path) -> None:
    assert [batch.known for batch in batches(tmp_path, two_labels, ["whole", "whole"])] == [None] * 6


@pytest.mark.parametrize("batch_dice", [False, True])
def test_a_network_that_knows_better_than_the_label_map_is_not_wrong(two_labels: LabelSpec, tmp_path: Path, batch_dice: bool) -> None:
    """Scores of the whole truth are perfect (cross-entropy 0, Dice 1), though the label map has background in place of a class."""
    loss, seen = SegmentationLoss(two_labels, batch_dice, 1), 0
    for batch in batches(tmp_path, two_labels, list(KNOWN)):
        truth, labels = batch.image[:, 0].long(), batch.labels.clamp(min=0)
        scores = 50.0 * torch.nn.functional.one_hot(truth, 3).movedim(-1, 1).float()
        assert float(loss([scores], labels, known=batch.known)) == pytest.approx(-1, abs=1e-5)
        if not truth.equal(labels.long()):
            seen += 1
            assert float(loss([scores], labels)) > 0
    assert seen


def test_background_and_what_is_not_annotated_are_the_same_to_the_loss(two_labels: LabelSpec, wave, tmp_path: Path) -> None:
    """Scores of both exchanged, in any voxels: the same loss, and its gradients are exchanged."""
    loss = SegmentationLoss(two_labels, False, 1)
    for batch in batches(tmp_path, two_labels, ["ball_only"], count=2):
        labels = batch.labels.clamp(min=0)
        where = torch.from_numpy(wave((2, 1, 16, 16, 16), 1.0) > 0)
        plain = torch.from_numpy(3 * wave((2, 3, 16, 16, 16), 0.3)).float()
        values, gradients = [], []
        for scores in (plain, torch.where(where, plain[:, [2, 1, 0]], plain)):
            scores.requires_grad_()
            value = loss([scores], labels, known=batch.known)
            value.backward()
            assert scores.grad is not None
            values.append(value.detach())
            gradients.append(scores.grad)
        torch.testing.assert_close(values[0], values[1])
        torch.testing.assert_close(gradients[0], torch.where(where, gradients[1][:, [2, 1, 0]], gradients[1]), atol=1e-8, rtol=1e-4)
