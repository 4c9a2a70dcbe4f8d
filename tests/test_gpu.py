"""What only a GPU can show. Skipped without one; `make test` on a machine with one runs it."""

import numpy as np
import pytest
import torch

from autounet.device import autocast
from autounet.inference.window import predict_scores
from autounet.labels import LabelSpec, StructureClass
from autounet.machine.computing import look_at_torch
from autounet.machine.self_test import run_self_test
from autounet.networks.build import build_network
from autounet.networks.unet2015 import reseed
from autounet.plan import Configuration, LossSpec, NetworkSpec, Normalization
from autounet.runtime import Runtime
from autounet.training.augmentation.pipeline import Augmentation
from autounet.training.losses import BorderLoss, SegmentationLoss, confusion_counts

GPU = torch.device("cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu")

pytestmark = pytest.mark.skipif(GPU.type == "cpu", reason="no GPU on this machine")

LABELS = LabelSpec(classes=(StructureClass(name="organ", values=(1,)), StructureClass(name="lesion", values=(2,))))


def configuration(ndim: int) -> Configuration:
    network = NetworkSpec(
        kind="plain",
        ndim=3 if ndim == 3 else 2,
        in_channels=1,
        outputs=3,
        features=(8, 16),
        strides=((1,) * ndim, (2,) * ndim),
        kernel_sizes=((3,) * ndim,) * 2,
        blocks_encoder=(2, 2),
        blocks_decoder=(2,),
    )
    return Configuration(
        name="tested",
        spacing_mm=(1.0,) * ndim,
        median_shape=(24.0,) * ndim,
        patch_size=(16,) * ndim,
        batch_size=2,
        batch_dice=False,
        normalization=(Normalization(scheme="zscore"),),
        network=network,
        mirror_axes=tuple(range(network.ndim)),
        decisions=(),
    )


@pytest.mark.parametrize("ndim", [2, 3])
def test_augmented_batch_equals_the_cpus(ndim: int) -> None:
    augmentation = Augmentation(configuration(ndim), tuple(range(ndim)))
    rng = np.random.default_rng(0)
    image = torch.from_numpy(rng.normal(size=(8, 1, *(24,) * ndim)).astype(np.float32))
    labels = torch.from_numpy(rng.integers(-1, 3, (8, *(24,) * ndim)).astype(np.int16))
    draw = augmentation.draw(np.random.default_rng(1), 8, 1)
    noisy = draw.intensity[0].samples  # noise fields differ between devices
    there, labels_there = augmentation.apply(image.to(GPU), labels.to(GPU), draw)
    here, labels_here = augmentation.apply(image.clone(), labels.clone(), draw)
    kept = [sample for sample in range(8) if sample not in noisy]
    torch.testing.assert_close(there.cpu()[kept], here[kept], atol=1e-3, rtol=1e-3)
    assert (labels_there.cpu() != labels_here).float().mean() < 0.01  # rounding at the middle between two voxels


@pytest.mark.parametrize("kind", ["plain", "unet2015"])
def test_deformed_batch_equals_the_cpus(kind: str) -> None:
    """Mirrored beyond the loaded patch for unpadded networks, zero for others."""
    entry = configuration(2)
    entry = entry.model_copy(update={"network": entry.network.model_copy(update={"kind": kind})})
    augmentation = Augmentation(entry, (0, 1), "unet2015")
    rng = np.random.default_rng(0)
    image = torch.from_numpy(rng.normal(size=(8, 1, 24, 24)).astype(np.float32))
    labels = torch.from_numpy(rng.integers(0, 3, (8, 24, 24)).astype(np.int16))
    draw = augmentation.draw(np.random.default_rng(1), 8, 1)
    there, labels_there = augmentation.apply(image.to(GPU), labels.to(GPU), draw)
    here, labels_here = augmentation.apply(image.clone(), labels.clone(), draw)
    torch.testing.assert_close(there.cpu(), here, atol=1e-2, rtol=1e-3)  # gamma of very dark pixels is steep
    assert (labels_there.cpu() != labels_here).float().mean() < 0.01


def test_a_step_of_the_network_of_2015_gives_the_cpus_loss() -> None:
    rng = np.random.default_rng(0)
    image = torch.from_numpy(rng.normal(size=(2, 1, 28, 28)).astype(np.float32))
    labels = torch.from_numpy(rng.integers(0, 3, (2, 12, 12)).astype(np.int16))
    border = torch.from_numpy(rng.random((2, 12, 12)).astype(np.float32))
    losses = {}
    for device in (GPU, torch.device("cpu")):
        network = build_network(configuration(2).network.model_copy(update={"kind": "unet2015"})).to(device).eval()  # no dropout
        scores = network(image.to(device))
        value = BorderLoss(LABELS, LossSpec(kind="border_ce", objects=(0,)))(scores, labels.to(device), border.to(device))
        torch.autograd.backward(value)
        losses[device.type] = float(value.detach())
        reseed(network.train(), 3)
        dropped = [network(image.to(device))[0] for _ in range(2)]
        assert dropped[0].equal(dropped[1])  # the same seed on the same device
    assert losses[GPU.type] == pytest.approx(losses["cpu"], abs=1e-3)


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_step_gives_the_cpus_loss_and_finite_gradients(ndim: int, dtype: torch.dtype) -> None:
    rng = np.random.default_rng(0)
    image = torch.from_numpy(rng.normal(size=(2, 1, *(16,) * ndim)).astype(np.float32))
    labels = torch.from_numpy(rng.integers(0, 3, (2, *(16,) * ndim)).astype(np.int16))
    losses = {}
    for device in (GPU, torch.device("cpu")):
        network = build_network(configuration(ndim).network).to(device).train()
        loss = SegmentationLoss(LABELS, batch_dice=False, resolutions=1)
        with autocast(device, dtype if device == GPU else torch.float32):
            scores = network(image.to(device))
        value = loss(scores, labels.to(device))
        torch.autograd.backward(value)
        losses[device.type] = float(value.detach())
        assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in network.parameters())
        assert int(confusion_counts(scores[0], labels.to(device), LABELS).sum()) > 0
    assert losses[GPU.type] == pytest.approx(losses["cpu"], abs=1e-4 if dtype == torch.float32 else 2e-2)


@pytest.mark.parametrize("ndim", [2, 3])
def test_scores_of_a_whole_image_equal_the_cpus(ndim: int) -> None:
    image = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 20, 30, 28)).astype(np.float32))
    found = []
    for device in (GPU, torch.device("cpu")):
        network = build_network(configuration(ndim).network).to(device).eval()
        with torch.inference_mode():
            found.append(
                predict_scores(
                    lambda patches, network=network: network(patches)[0],
                    image,
                    (16,) * ndim,
                    mirror_axes=tuple(range(ndim)),
                    batch_size=2,
                    device=device,
                ).cpu()
            )
    torch.testing.assert_close(found[0], found[1], atol=1e-3, rtol=1e-3)


def test_the_doctor_finds_nothing_wrong_with_it() -> None:
    found = look_at_torch(Runtime())
    assert found.device == GPU.type
    assert found.mps or all(gpu.known and 0 < gpu.free_bytes <= gpu.total_bytes for gpu in found.gpus)
    test = run_self_test(None, Runtime())
    assert test.deviation is not None
    assert test.deviation < test.tolerance
    assert test.last_loss is not None
    assert test.first_loss is not None
    assert test.last_loss < test.first_loss
    assert test.dice is not None
    assert test.dice > 0.5
