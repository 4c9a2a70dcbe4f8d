"""What a case will take, from its size."""

from collections.abc import Callable

import pytest
import torch

from autounet.geometry import Grid
from autounet.inference import needs
from autounet.inference.model import Model, Stage
from autounet.inference.needs import RESTORING, memory_budget, needs_of, network_bytes
from autounet.plan import Configuration, Plan

MakePlan = Callable[..., tuple[Plan, Configuration]]


@pytest.fixture
def model(make_plan: MakePlan) -> Model:
    """Three outputs, patches of 16×8×8 voxels at 2 mm, axes turned; four feature maps."""
    plan, configuration = make_plan((2.0, 2.0, 2.0), transpose=(1, 0, 2), patch=(16, 8, 8))
    return Model(plan, (Stage(configuration, lambda x: x),), torch.device("cpu"))


def test_by_hand(model: Model) -> None:
    """100×80×60 voxels of 1 mm: 480 000, and at 2 mm, y first, 40×50×30 = 60 000 voxels."""
    found = needs_of(model, 2, Grid(shape_zyx=(100, 80, 60), spacing_mm_zyx=(1.0, 1.0, 1.0)))
    assert found.reading == 8 * 2 * 480_000 + 2 * 4 * 2 * 480_000
    assert found.predicting == 4 * 2 * 60_000 + 3 * 480_000 + 12 * (3 * 60_000 + 480_000)
    assert found.sums == 4 * 3 * 16 * 50 * 30
    assert found.most == found.reading
    larger = needs_of(model, 2, Grid(shape_zyx=(2000, 1600, 1200), spacing_mm_zyx=(1.0, 1.0, 1.0)))
    assert larger.predicting == 8000 * (4 * 2 * 60_000 + 3 * 480_000) + RESTORING


def test_a_cascade_keeps_the_image(model: Model) -> None:
    twice = Model(model.plan, model.stages * 2, model.device)
    grid = Grid(shape_zyx=(100, 80, 60), spacing_mm_zyx=(1.0, 1.0, 1.0))
    assert needs_of(twice, 2, grid).predicting - needs_of(model, 2, grid).predicting == 4 * 2 * 480_000


def test_the_budget_is_what_is_left_beside_the_network(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """The network: four float32 maps of four features, 1024 voxels, eight patches. Of a limit what the process has already counts."""
    assert network_bytes(model) == 4 * 4 * 4 * 1024 * 8
    monkeypatch.setattr(needs, "available_bytes", lambda: 10**10)
    monkeypatch.setattr(needs, "resident_bytes", lambda: 10**9)
    assert memory_budget(model, None) == 7 * 10**9 - network_bytes(model)
    assert memory_budget(model, 6.0) == 5 * 10**9 - network_bytes(model)
    assert memory_budget(model, 0.5) == needs.LEAST_BYTES
