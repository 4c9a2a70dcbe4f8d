"""One contract for every kind of network, and the numbers of nnU-Net's networks."""

import json
import math
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from autounet.networks.blocks import ConvBlock, InstanceNorm, ResidualBlock, Shortcut
from autounet.networks.build import build_network
from autounet.networks.cost import activations, parameters
from autounet.plan import NetworkSpec

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "nnunet_networks.json").read_text(encoding="utf-8"))

# fmt: off
SPECS: dict[str, tuple[NetworkSpec, tuple[int, ...]]] = {
    f"{kind} {name}": (
        NetworkSpec(
            kind=kind, ndim=len(patch), in_channels=channels, outputs=outputs, features=features,  # type: ignore[arg-type]
            strides=strides, kernel_sizes=kernels, blocks_encoder=encoder, blocks_decoder=decoder,
        ),
        patch,
    )
    for kind in ("plain", "residual")
    for name, channels, outputs, features, strides, kernels, encoder, decoder, patch in (
        ("2D", 1, 2, (4, 8, 8), ((1, 1), (2, 2), (2, 2)), ((3, 3),) * 3, (2, 2, 2), (2, 2), (16, 12)),
        ("3D", 2, 3, (4, 6, 8), ((1, 1, 1), (2, 2, 2), (2, 2, 2)), ((3, 3, 3),) * 3, (1, 2, 1), (1, 2), (8, 12, 16)),
        (
            "anisotropic", 1, 4, (4, 6, 8, 8), ((1, 1, 1), (1, 2, 2), (2, 2, 2), (1, 2, 1)),
            ((1, 3, 3), (1, 3, 3), (3, 3, 3), (3, 3, 3)), (2, 1, 2, 1), (2, 1, 1), (6, 16, 12),
        ),
    )
}
# fmt: on

every_network = pytest.mark.parametrize(("spec", "patch"), SPECS.values(), ids=SPECS.keys())


def scale(spec: NetworkSpec, patch: Sequence[int], level: int) -> tuple[int, ...]:
    """Size of the patch at a level of resolution."""
    steps = [math.prod(stride[axis] for stride in spec.strides[: level + 1]) for axis in range(spec.ndim)]
    return tuple(side // step for side, step in zip(patch, steps, strict=True))


def random_input(spec: NetworkSpec, patch: Sequence[int], samples: int = 2) -> Tensor:
    return torch.randn(samples, spec.in_channels, *patch, generator=torch.Generator().manual_seed(0))


@every_network
def test_training_gives_every_resolution_finest_first(spec: NetworkSpec, patch: tuple[int, ...]) -> None:
    scores = build_network(spec).train()(random_input(spec, patch))
    assert [tuple(entry.shape) for entry in scores] == [
        (2, spec.outputs, *scale(spec, patch, level)) for level in range(len(spec.features) - 1)
    ]


@every_network
def test_evaluation_gives_the_finest_only_and_the_same(spec: NetworkSpec, patch: tuple[int, ...]) -> None:
    network, x = build_network(spec), random_input(spec, patch)
    with torch.no_grad():
        full = network.train()(x)
        single = network.eval()(x)
    assert len(single) == 1
    assert torch.equal(single[0], full[0])


@every_network
def test_every_parameter_gets_a_gradient(spec: NetworkSpec, patch: tuple[int, ...]) -> None:
    network = build_network(spec).train()
    with torch.no_grad():  # as built, residual blocks are their shortcuts: give the rest a weight
        for module in network.modules():
            if isinstance(module, ResidualBlock):
                module.second.norm.weight.fill_(0.5)
    sum((entry**3).mean() for entry in network(random_input(spec, patch))).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        # A bias before a norm is taken out again by it: its gradient is nothing but rounding.
        if not (name.endswith("conv.bias") and "heads" not in name):
            assert parameter.grad.abs().max() > 0, name


@every_network
def test_weights_have_one_name_each_and_survive_a_round_trip(spec: NetworkSpec, patch: tuple[int, ...]) -> None:
    network, other = build_network(spec, seed=1), build_network(spec, seed=2)
    weights = network.state_dict()
    assert len({tensor.data_ptr() for tensor in weights.values()}) == len(weights)
    assert set(weights) == {name for name, _ in network.named_parameters()}
    other.load_state_dict(weights)
    x = random_input(spec, patch)
    assert torch.equal(network.eval()(x)[0], other.eval()(x)[0])


@every_network
def test_parameters_are_as_many_as_the_cost_says(spec: NetworkSpec, patch: tuple[int, ...]) -> None:
    assert sum(parameter.numel() for parameter in build_network(spec).parameters()) == parameters(spec)


@every_network
def test_activations_are_as_many_as_the_cost_says(spec: NetworkSpec, patch: tuple[int, ...]) -> None:
    """Counted on the living network: the outputs of all convolutions, and of the shortcuts that change anything."""
    network, counted = build_network(spec).eval(), 0

    def count(module: nn.Module, inputs: Any, output: Tensor) -> None:
        nonlocal counted
        changes = not isinstance(module, Shortcut) or output.shape != inputs[0].shape
        counted += output[0].numel() if changes else 0

    for name, module in network.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d, Shortcut)) and "shortcut." not in name:
            module.register_forward_hook(count)
    network(random_input(spec, patch, samples=1))
    assert counted == activations(spec, patch)


@every_network
def test_the_seed_alone_decides_the_weights(spec: NetworkSpec, patch: tuple[int, ...]) -> None:
    torch.manual_seed(5)
    first = build_network(spec, seed=3).state_dict()
    torch.manual_seed(6)
    torch.rand(7)
    state = torch.get_rng_state()
    second, third = build_network(spec, seed=3).state_dict(), build_network(spec, seed=4).state_dict()
    assert torch.equal(torch.get_rng_state(), state)  # the global generator is as it was
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], third[name]) for name in first)


def test_he_initialisation() -> None:
    """Standard deviation sqrt(2 / (1 + 0.01²) / fan in), biases 0; norms start as the identity."""
    spec = SPECS["plain 3D"][0].model_copy(update={"features": (64, 128, 128), "in_channels": 4})
    network = build_network(spec)
    for name, module in network.named_modules():
        if isinstance(module, (nn.Conv3d, nn.ConvTranspose3d)):
            weights = module.weight.detach()
            fan_in = weights[0].numel()  # torch takes the second axis as the input, for transposed convolutions too
            expected = (2 / (1 + 0.01**2) / fan_in) ** 0.5
            margin = 5 / (2 * weights.numel()) ** 0.5  # five standard errors of a standard deviation
            assert float(weights.std()) == pytest.approx(expected, rel=margin), name
            assert abs(float(weights.mean())) < 5 * expected / weights.numel() ** 0.5, name
            assert module.bias is not None
            assert (module.bias == 0).all(), name
        if isinstance(module, InstanceNorm):
            assert (module.weight == 1).all(), name
            assert (module.bias == 0).all(), name


def test_residual_blocks_start_as_their_shortcut() -> None:
    spec = SPECS["residual 3D"][0]
    network = build_network(spec)
    block = network.encoder.stages[1][1]
    assert isinstance(block, ResidualBlock)
    x = torch.rand(1, spec.features[1], 4, 6, 8)  # not negative: the final leaky ReLU leaves it alone
    assert torch.equal(block(x), x)


@pytest.mark.parametrize("ndim", [2, 3])
def test_instance_norm_is_torchs(ndim: int) -> None:
    norm = InstanceNorm(5)
    reference = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}[ndim](5, eps=1e-5, affine=True)
    with torch.no_grad():
        for values in (norm.weight, norm.bias):
            values.uniform_(-1, 1)
        reference.load_state_dict(norm.state_dict())
    x = torch.rand(2, 5, *(4, 6, 3)[:ndim]) * 100 - 20
    torch.testing.assert_close(norm(x), reference(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kernel", [(1, 3, 3), (3, 3, 3)])
def test_convolutions_keep_the_size(kernel: tuple[int, ...]) -> None:
    x = torch.rand(1, 2, 4, 6, 8)
    assert ConvBlock(3, 2, 5, kernel, (1, 1, 1))(x).shape == (1, 5, 4, 6, 8)
    assert ConvBlock(3, 2, 5, kernel, (1, 2, 2))(x).shape == (1, 5, 4, 3, 4)


def wave(shape: Sequence[int], phase: float) -> npt.NDArray[np.float64]:
    """As in benchmarks/golden."""
    index = np.arange(math.prod(shape), dtype=np.float64)
    return np.sin(0.7 * index + phase + 0.001 * index**2).reshape(shape)


def network_input(row: dict[str, Any]) -> npt.NDArray[np.float32]:
    values, labels = wave((2, row["in_channels"], *row["patch"]), 0.1), row.get("one_hot", 0)
    label_map = ((wave((2, *row["patch"]), 0.3) + 1) / 2 * (labels + 1)).astype(int)
    for label in range(1, labels + 1):
        values[:, row["in_channels"] - labels + label - 1] = label_map == label
    return values.astype(np.float32)


def weight(name: str, shape: Sequence[int]) -> npt.NDArray[np.float32]:
    values = wave(shape, zlib.crc32(name.encode()) % 1000)
    return (1 + 0.3 * values if name.endswith("norm.weight") else 0.5 * values).astype(np.float32)


def golden_spec(row: dict[str, Any]) -> NetworkSpec:
    return NetworkSpec.model_validate_json(json.dumps({key: row[key] for key in NetworkSpec.model_fields}))


@pytest.mark.parametrize("row", GOLDEN.values(), ids=GOLDEN.keys())
def test_same_weights_same_scores_as_nnunets_networks(row: dict[str, Any]) -> None:
    """PlainConvUNet and ResidualEncoderUNet with deep supervision: every parameter under its name, every resolution in order."""
    network = build_network(golden_spec(row)).train()
    assert {name: list(parameter.shape) for name, parameter in network.named_parameters()} == row["parameters"]
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.copy_(torch.from_numpy(weight(name, tuple(parameter.shape))))
        scores = network(torch.from_numpy(network_input(row)))
    assert [list(entry.shape) for entry in scores] == [expected["shape"] for expected in row["scores"]]
    for entry, expected in zip(scores, row["scores"], strict=True):
        values = entry.double().numpy().ravel()
        picked = values[:: max(1, len(values) // 60)]
        np.testing.assert_allclose(picked, expected["picked"], rtol=1e-5, atol=1e-5 * float(np.abs(values).max()))
        assert (values**2).mean() == pytest.approx(expected["mean_square"], rel=1e-5)


@pytest.mark.parametrize("size", [(6, 5), (4, 6, 5), (1, 1, 1)])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("learning", [False, True])
def test_instance_norm_is_torchs_in_every_memory_layout(size: tuple[int, ...], channels_last: bool, learning: bool) -> None:
    """Values, and gradients of input, scale and shift; a single voxel is its shift."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 4, *size, generator=generator, dtype=torch.float64)
    norm = InstanceNorm(4).double()
    with torch.no_grad():
        norm.weight.copy_(torch.randn(4, generator=generator, dtype=torch.float64))
        norm.bias.copy_(torch.randn(4, generator=generator, dtype=torch.float64))
    layout = {(2, True): torch.channels_last, (3, True): torch.channels_last_3d}.get((len(size), channels_last), torch.contiguous_format)
    ours, weights = x.contiguous(memory_format=layout).requires_grad_(), (norm.weight, norm.bias)
    theirs = x.clone().requires_grad_()
    centred = theirs - theirs.mean(tuple(range(2, x.ndim)), keepdim=True)
    spread = (centred**2).mean(tuple(range(2, x.ndim)), keepdim=True)
    shape = (1, 4, *(1,) * len(size))
    expected = centred / (spread + 1e-5).sqrt() * norm.weight.view(shape) + norm.bias.view(shape)
    with torch.set_grad_enabled(learning):
        found = norm(ours)
    torch.testing.assert_close(found, expected)
    if learning:
        towards = torch.randn(x.shape, generator=generator, dtype=torch.float64)
        pairs = zip(
            torch.autograd.grad((found * towards).sum(), (ours, *weights)),
            torch.autograd.grad((expected * towards).sum(), (theirs, *weights)),
            strict=True,
        )
        for mine, independent in pairs:
            torch.testing.assert_close(mine, independent)
