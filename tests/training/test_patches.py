"""Sizes of a patch from the case to the loss."""

import math

import pytest

from autounet.errors import ArtefactError
from autounet.plan import Configuration
from autounet.rotation import rotation_rule
from autounet.training.patches import PatchSizes, patch_sizes
from autounet.training.sampler import initial_patch_size


def _unpadded(entry: Configuration, patch: tuple[int, int]) -> Configuration:
    """Five stages, as the paper's network."""
    network = {
        "kind": "unet2015",
        "features": (4,) * 5,
        "strides": ((1, 1), *((2, 2),) * 4),
        "kernel_sizes": ((3, 3),) * 5,
        "blocks_encoder": (2,) * 5,
        "blocks_decoder": (2,) * 4,
    }
    return entry.model_copy(update={"network": entry.network.model_copy(update=network), "patch_size": patch})


@pytest.mark.parametrize("ndim", [2, 3])
def test_padded_networks_score_what_they_see(configuration, ndim: int) -> None:
    entry = configuration(ndim)
    loaded = initial_patch_size(entry.patch_size, rotation_rule(entry.patch_size))
    assert patch_sizes(entry, "nnunet") == PatchSizes(loaded, entry.patch_size, entry.patch_size, False)


def test_the_papers_patch(configuration) -> None:
    """572 · √2 = 808.9, and 3 · 10 pixels of displacement on both sides: 868.9; an even margin makes it 870."""
    assert patch_sizes(_unpadded(configuration(2), (572, 572)), "unet2015") == PatchSizes((870, 870), (572, 572), (388, 388), True)


@pytest.mark.parametrize("patch", [(188, 188), (204, 300), (284, 220)])
def test_turned_patches_find_loaded_voxels(configuration, patch: tuple[int, int]) -> None:
    sizes = patch_sizes(_unpadded(configuration(2), patch), "unet2015")
    assert all(loaded >= math.hypot(*patch) + 60 for loaded in sizes.loaded)
    assert all((loaded - side) % 2 == 0 for loaded, side in zip(sizes.loaded, patch, strict=True))
    assert sizes.scored == tuple(side - 184 for side in patch)


def test_volumes_are_deformed_within_slices(configuration) -> None:
    sizes = patch_sizes(configuration(3), "unet2015")
    assert sizes.loaded[0] == 16
    assert sizes.loaded[1] == sizes.loaded[2] >= 16 * math.sqrt(2) + 60


def test_a_patch_that_does_not_fit_is_named(configuration) -> None:
    with pytest.raises(ArtefactError, match="patch of 570×570 does not fit its network") as raised:
        patch_sizes(_unpadded(configuration(2), (570, 570)), "unet2015")
    assert "autounet plan" in str(raised.value.remedy)


def test_each_kind_loads_what_it_needs(configuration) -> None:
    """16³ turned by 30° reaches 16 · (cos 30° + sin 30°) = 21.86, by 15° 16 · 1.2247 = 19.60; over 0.85 or 0.7."""
    sizes = {kind: patch_sizes(configuration(3), kind).loaded[0] for kind in ("nnunet", "strong", "light", "none")}
    assert sizes == {"nnunet": int(21.86 / 0.85), "strong": int(21.86 / 0.7), "light": int(19.60 / 0.85), "none": 16}
