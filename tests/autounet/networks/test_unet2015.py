"""The network of 2015: the paper's numbers, a plain forward pass in other words, and the costs counted on the living network."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from autounet.networks.build import build_network
from autounet.networks.cost import activations, output_size, parameters
from autounet.networks.unet2015 import Dropout, UNet2015, crop_to, reseed
from autounet.plan import NetworkSpec


def spec_of(
    features: tuple[int, ...] = (4, 8, 16),
    channels: int = 1,
    outputs: int = 2,
    blocks: int = 2,
    ndim: int = 2,
    strides: tuple[tuple[int, ...], ...] | None = None,
) -> NetworkSpec:
    """A network that halves every axis at every stage unless ``strides`` say otherwise."""
    stages = len(features)
    return NetworkSpec(
        kind="unet2015",
        ndim=ndim,  # type: ignore[arg-type]
        in_channels=channels,
        outputs=outputs,
        features=features,
        strides=strides or ((1,) * ndim, *((2,) * ndim,) * (stages - 1)),
        kernel_sizes=((3,) * ndim,) * stages,
        blocks_encoder=(blocks,) * stages,
        blocks_decoder=(blocks,) * (stages - 1),
    )


PAPER = spec_of((64, 128, 256, 512, 1024))

SPECS = {
    "two stages": (spec_of((4, 8)), (24, 32)),
    "three channels, five outputs": (spec_of((4, 6, 8), channels=3, outputs=5), (44, 60)),
    "four stages, one convolution each": (spec_of((4, 5, 6, 7), blocks=1), (62, 46)),
    "a stage that halves one axis": (spec_of((4, 6, 8), strides=((1, 1), (2, 1), (2, 2))), (52, 40)),
    "volumes": (spec_of((2, 3), ndim=3), (20, 22, 24)),
}
every_network = pytest.mark.parametrize(("spec", "patch"), SPECS.values(), ids=SPECS.keys())


def random_input(spec: NetworkSpec, patch: tuple[int, ...], samples: int = 2) -> Tensor:
    return torch.randn(samples, spec.in_channels, *patch, generator=torch.Generator().manual_seed(0))


def test_the_papers_network_has_the_papers_size() -> None:
    """31.03 million weights; counted here from the channels of figure 1 alone."""
    down = [(1, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 512), (512, 512), (512, 1024), (1024, 1024)]
    up = [(1024, 512), (512, 512), (512, 256), (256, 256), (256, 128), (128, 128), (128, 64), (64, 64)]
    convolutions = sum(9 * first * second + second for first, second in down + up)
    raising = sum(4 * first * second + second for first, second in ((1024, 512), (512, 256), (256, 128), (128, 64)))
    network = build_network(PAPER)
    found = sum(parameter.numel() for parameter in network.parameters())
    assert found == parameters(PAPER) == convolutions + raising + 64 * 2 + 2 == 31_030_658
    assert output_size(PAPER, (572, 572)) == (388, 388)
    with torch.no_grad():
        scores = network.eval()(torch.zeros(1, 1, 188, 204))
    assert [tuple(entry.shape) for entry in scores] == [(1, 2, 4, 20)] == [(1, 2, *output_size(PAPER, (188, 204)))]


@every_network
@pytest.mark.parametrize("training", [True, False])
def test_one_head_of_the_size_that_the_cost_says(spec: NetworkSpec, patch: tuple[int, ...], training: bool) -> None:
    scores = build_network(spec).train(training)(random_input(spec, patch))
    assert [tuple(entry.shape) for entry in scores] == [(2, spec.outputs, *output_size(spec, patch))]


@every_network
def test_costs_are_those_of_the_living_network(spec: NetworkSpec, patch: tuple[int, ...]) -> None:
    network, counted = build_network(spec).eval(), []

    def count(module: nn.Module, inputs: Any, output: Tensor) -> None:
        counted.append(output[0].numel())

    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)):
            module.register_forward_hook(count)
    network(random_input(spec, patch, samples=1))
    assert sum(counted) == activations(spec, patch)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters(spec)


def test_forward_written_out() -> None:
    """Three stages as the paper's figure 1 draws them, with torch's functions alone."""
    spec, patch = SPECS["three channels, five outputs"]
    network, x = build_network(spec, seed=1).eval(), random_input(spec, patch)
    assert isinstance(network, UNet2015)
    weights = dict(network.named_parameters())

    def twice(x: Tensor, name: str) -> Tensor:
        for number in (0, 1):
            x = functional.conv2d(x, weights[f"{name}.convs.{number}.weight"], weights[f"{name}.convs.{number}.bias"]).relu()
        return x

    def up(x: Tensor, number: int) -> Tensor:
        return functional.conv_transpose2d(x, weights[f"ups.{number}.weight"], weights[f"ups.{number}.bias"], stride=2).relu()

    fine = twice(x, "encoder.0")  # 44×60 → 40×56
    middle = twice(functional.max_pool2d(fine, 2), "encoder.1")  # 20×28 → 16×24
    coarse = twice(functional.max_pool2d(middle, 2), "encoder.2")  # 8×12 → 4×8
    raised = up(coarse, 0)  # 8×16: of 16×24, 4 go on each side
    middle = twice(torch.cat((middle[..., 4:-4, 4:-4], raised), 1), "decoder.0")  # 4×12
    raised = up(middle, 1)  # 8×24: of 40×56, 16 go on each side
    fine = twice(torch.cat((fine[..., 16:-16, 16:-16], raised), 1), "decoder.1")  # 4×20
    expected = functional.conv2d(fine, weights["head.weight"], weights["head.bias"])
    torch.testing.assert_close(network(x)[0], expected)


@every_network
def test_every_parameter_gets_a_gradient(spec: NetworkSpec, patch: tuple[int, ...]) -> None:
    network = build_network(spec, seed=3).train()
    network(random_input(spec, patch))[0].square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().max() > 0, name


def test_he_initialisation() -> None:
    """Standard deviation sqrt(2 / N): N = 9 · channels for a convolution (the paper's example: 9 · 64 = 576), channels for the others."""
    network = build_network(
        PAPER.model_copy(
            update={
                "features": (64, 128, 256),
                "strides": PAPER.strides[:3],
                "kernel_sizes": PAPER.kernel_sizes[:3],
                "blocks_encoder": (2, 2, 2),
                "blocks_decoder": (2, 2),
            }
        )
    )
    for name, module in network.named_modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            inputs = module.in_channels * (9 if module.kernel_size == (3, 3) else 1)
            expected = (2 / inputs) ** 0.5
            margin = 5 / (2 * module.weight.numel()) ** 0.5  # five standard errors of a standard deviation
            assert float(module.weight.detach().std()) == pytest.approx(expected, rel=margin), name
            assert (module.bias == 0).all(), name


def test_the_seed_alone_decides_the_weights() -> None:
    spec = SPECS["two stages"][0]
    torch.manual_seed(5)
    first = build_network(spec, seed=3).state_dict()
    torch.rand(7)
    state = torch.get_rng_state()
    second, third = build_network(spec, seed=3).state_dict(), build_network(spec, seed=4).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], third[name]) for name in first)


def test_dropout_draws_from_its_seed_and_leaves_the_global_generator_alone() -> None:
    dropout, x = Dropout(0.5), torch.ones(200, 200)
    state = torch.get_rng_state()
    reseed(dropout, 7)
    first = dropout(x)
    assert first.equal(dropout(x))
    reseed(dropout, 8)
    assert not first.equal(dropout(x))
    assert torch.equal(torch.get_rng_state(), state)
    assert set(first.unique().tolist()) == {0.0, 2.0}  # what is kept makes up for what is not
    assert abs(float(first.mean()) - 1) < 5 / 200  # five standard deviations of 40 000 throws
    assert dropout.eval()(x).equal(x)


def test_dropout_lies_behind_the_two_coarsest_stages_and_they_differ() -> None:
    network = build_network(SPECS["four stages, one convolution each"][0])
    dropped: list[Tensor] = []
    for dropout in network.modules():
        if isinstance(dropout, Dropout):
            dropout.register_forward_hook(lambda module, inputs, output: dropped.append(output))
    reseed(network, 3)
    seeds = [module.seed for module in network.modules() if isinstance(module, Dropout)]
    network.train()(random_input(*SPECS["four stages, one convolution each"]))
    assert [entry.shape[1] for entry in dropped] == [6, 7]
    assert len(set(seeds)) == 2


def test_the_middle() -> None:
    assert crop_to(torch.arange(8)[None], (4,)).tolist() == [[2, 3, 4, 5]]
    assert crop_to(torch.arange(24).reshape(1, 4, 6), (2, 4)).tolist() == [[[7, 8, 9, 10], [13, 14, 15, 16]]]
