"""Patch and batch under a memory target."""

import pytest

from autounet.errors import UsageError
from autounet.planners.budget import Budget, batch_size, fit_patch, start_patch
from autounet.planners.presets import PRESETS


def test_start_patch_has_equal_extent_in_mm() -> None:
    """Spacing 4, 1, 1: 256³ voxels in the proportions 1:4:4 are 256/4^(2/3) = 101.6, 406.4, 406.4."""
    assert start_patch((4.0, 1.0, 1.0), (1000.0, 1000.0, 1000.0)) == (102.0, 406.0, 406.0)
    assert start_patch((1.0, 1.0), (5000.0, 5000.0)) == (2048.0, 2048.0)


def test_start_patch_is_no_larger_than_the_typical_image() -> None:
    assert start_patch((1.0, 1.0, 1.0), (36.0, 50.5, 300.0)) == (36.0, 50.5, 256.0)


def test_start_patch_keeps_a_voxel_of_an_extremely_coarse_axis() -> None:
    assert min(start_patch((1e7, 1.0, 1.0), (10.0, 500.0, 500.0))) == 1.0


def test_patch_shrinks_until_its_network_fits() -> None:
    budget = Budget(PRESETS["nnunet"], 3, 8.0)
    fitted = fit_patch((1.0, 1.0, 1.0), (138.0, 168.5, 137.0), budget, 4, 4)
    assert fitted.topology.patch_size == (128, 128, 128)
    assert fitted.shrunk
    assert fitted.features == 454_893_568  # the peer's network of this patch, see test_cost.py
    assert fitted.features <= budget.features == 560e6


def test_divisibility_is_asked_again_so_that_no_size_is_skipped() -> None:
    """512 is halved seven times; 384 = 512 - 128 would be next, yet 448 = 7 · 64 is valid too and must be tried."""
    budget = Budget(PRESETS["resenc-m"], 2, 8.0)
    sizes = set()
    for memory in range(40, 90, 2):
        edges = fit_patch((1.0, 1.0), (512.0, 512.0), Budget(PRESETS["resenc-m"], 2, memory / 10), 1, 3).topology.patch_size
        sizes.update(edges)
    assert budget.target.patch_batch == 12
    assert {512, 448, 384} <= sizes


def test_impossible_memory_is_refused() -> None:
    with pytest.raises(UsageError, match=r"no network of preset 'nnunet' is small enough for 0\.001 GB"):
        fit_patch((1.0, 1.0, 1.0), (100.0, 100.0, 100.0), Budget(PRESETS["nnunet"], 3, 0.001), 1, 2)


def test_thousand_classes_only_shrink_the_patch() -> None:
    budget = Budget(PRESETS["nnunet"], 3, 8.0)
    many, few = (fit_patch((1.0,) * 3, (200.0,) * 3, budget, 1, outputs) for outputs in (1000, 2))
    assert 8 <= min(many.topology.patch_size) < min(few.topology.patch_size)


def test_batch_is_what_fits() -> None:
    """Hippocampus: 560e6 / 19 174 400 · 2 = 58.4 patches fit; the dataset is large enough here for all of them."""
    budget = Budget(PRESETS["nnunet"], 3, 8.0)
    patch = fit_patch((1.0, 1.0, 1.0), (36.0, 50.0, 35.0), budget, 1, 3)
    assert batch_size(patch, budget, 1e12)[0] == 58


def test_batch_holds_a_twentieth_of_the_dataset_at_most() -> None:
    """260 images of 36·50·35 voxels: 5 % of 16 380 000 are 9.14 patches of 89 600."""
    budget = Budget(PRESETS["nnunet"], 3, 8.0)
    patch = fit_patch((1.0, 1.0, 1.0), (36.0, 50.0, 35.0), budget, 1, 3)
    size, reason = batch_size(patch, budget, 260 * 36 * 50 * 35)
    assert size == 9
    assert reason == "a batch of 9 holds 5 % of the voxels of all training images, the most it may; 58 would fit into 8 GB"


def test_batch_is_two_at_least() -> None:
    budget = Budget(PRESETS["nnunet"], 3, 8.0)
    patch = fit_patch((1.0, 1.0, 1.0), (36.0, 50.0, 35.0), budget, 1, 3)
    assert batch_size(patch, budget, 1.0)[0] == 2


def test_preset_may_limit_the_batch() -> None:
    budget = Budget(PRESETS["small"], 3, 1.0)
    patch = fit_patch((1.0, 1.0, 1.0), (36.0, 50.0, 35.0), budget, 1, 3)
    size, reason = batch_size(patch, budget, 1e12)
    assert size == 2
    assert reason.startswith("preset 'small' takes at most 2; 8 would fit")
