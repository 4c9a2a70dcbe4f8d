"""Costs against nnU-Net's networks, whose numbers were taken from dynamic-network-architectures 0.4.4 itself, and by hand."""

from typing import Any, NamedTuple

import pytest

from autounet.networks.cost import activations, parameters, stage_sizes
from autounet.plan import NetworkSpec


class Golden(NamedTuple):
    kind: Any
    in_channels: int
    outputs: int
    features: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]
    kernel_sizes: tuple[tuple[int, ...], ...]
    blocks: tuple[int, ...]
    decoder: tuple[int, ...]
    patch: tuple[int, ...]
    activations: int
    parameters: int

    def spec(self) -> NetworkSpec:
        return NetworkSpec(
            kind=self.kind,
            ndim=len(self.patch),  # type: ignore[arg-type]
            in_channels=self.in_channels,
            outputs=self.outputs,
            features=self.features,
            strides=self.strides,
            kernel_sizes=self.kernel_sizes,
            blocks_encoder=self.blocks,
            blocks_decoder=self.decoder,
        )


# fmt: off
GOLDEN = {
    "hippocampus 3D": Golden(
        "plain", 1, 3,
        features=(32, 64, 128, 256),
        strides=((1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2)),
        kernel_sizes=((3, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3)),
        blocks=(2, 2, 2, 2), decoder=(2, 2, 2),
        patch=(40, 56, 40),
        activations=19_174_400, parameters=5_603_177,
    ),
    "hippocampus 2D": Golden(
        "plain", 1, 3,
        features=(32, 64, 128, 256),
        strides=((1, 1), (2, 2), (2, 2), (2, 2)),
        kernel_sizes=((3, 3), (3, 3), (3, 3), (3, 3)),
        blocks=(2, 2, 2, 2), decoder=(2, 2, 2),
        patch=(56, 40),
        activations=651_840, parameters=1_928_489,
    ),
    "cube of 128": Golden(
        "plain", 4, 4,
        features=(32, 64, 128, 256, 320, 320),
        strides=((1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2)),
        kernel_sizes=((3, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3)),
        blocks=(2, 2, 2, 2, 2, 2), decoder=(2, 2, 2, 2, 2),
        patch=(128, 128, 128),
        activations=454_893_568, parameters=31_199_796,
    ),
    "cardiac, one flat axis": Golden(
        "plain", 1, 4,
        features=(32, 64, 128, 256, 320, 320),
        strides=((1, 1, 1), (1, 2, 2), (1, 2, 2), (2, 2, 2), (1, 2, 2), (1, 2, 2)),
        kernel_sizes=((1, 3, 3), (1, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3)),
        blocks=(2, 2, 2, 2, 2, 2), decoder=(2, 2, 2, 2, 2),
        patch=(10, 256, 224),
        activations=170_562_560, parameters=30_012_884,
    ),
    "105 classes, 8 stages": Golden(
        "plain", 3, 105,
        features=(32, 64, 128, 256, 512, 512, 512, 512),
        strides=((1, 1), (2, 2), (2, 2), (2, 2), (2, 2), (2, 2), (2, 2), (2, 2)),
        kernel_sizes=((3, 3), (3, 3), (3, 3), (3, 3), (3, 3), (3, 3), (3, 3), (3, 3)),
        blocks=(2, 2, 2, 2, 2, 2, 2, 2), decoder=(2, 2, 2, 2, 2, 2, 2),
        patch=(512, 640),
        activations=137_031_680, parameters=46_533_503,
    ),
    "uneven numbers of convolutions": Golden(
        "plain", 1, 2,
        features=(16, 32, 64, 128),
        strides=((1, 1, 1), (1, 2, 2), (2, 2, 2), (2, 2, 1)),
        kernel_sizes=((1, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3)),
        blocks=(1, 2, 3, 1), decoder=(3, 1, 2),
        patch=(10, 24, 20),
        activations=541_440, parameters=1_097_366,
    ),
    "residual 3D": Golden(
        "residual", 1, 3,
        features=(32, 64, 128, 256, 320, 320),
        strides=((1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2)),
        kernel_sizes=((3, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3)),
        blocks=(1, 3, 4, 6, 6, 6), decoder=(1, 1, 1, 1, 1),
        patch=(128, 128, 128),
        activations=557_420_544, parameters=102_350_575,
    ),
    "residual 2D": Golden(
        "residual", 1, 3,
        features=(32, 64, 128, 256, 512, 512, 512),
        strides=((1, 1), (2, 2), (2, 2), (2, 2), (2, 2), (2, 2), (2, 2)),
        kernel_sizes=((3, 3), (3, 3), (3, 3), (3, 3), (3, 3), (3, 3), (3, 3)),
        blocks=(1, 3, 4, 6, 6, 6, 6), decoder=(1, 1, 1, 1, 1, 1),
        patch=(512, 512),
        activations=129_531_904, parameters=105_918_322,
    ),
    "residual, one flat axis": Golden(
        "residual", 2, 5,
        features=(32, 64, 128, 256, 320, 320, 320),
        strides=((1, 1, 1), (1, 2, 2), (1, 2, 2), (2, 2, 2), (2, 2, 2), (1, 2, 2), (1, 2, 1)),
        kernel_sizes=((1, 3, 3), (1, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3)),
        blocks=(1, 3, 4, 6, 6, 6, 6), decoder=(1, 1, 1, 1, 1, 1),
        patch=(12, 256, 192),
        activations=255_610_368, parameters=140_201_054,
    ),
}
# fmt: on
"""``compute_conv_feature_map_size(patch)`` and the sum of ``numel()`` over ``parameters()`` of the peer's network."""


@pytest.mark.parametrize("golden", GOLDEN.values(), ids=GOLDEN.keys())
def test_costs_equal_those_of_nnunets_networks(golden: Golden) -> None:
    assert activations(golden.spec(), golden.patch) == golden.activations
    assert parameters(golden.spec()) == golden.parameters


def test_plain_network_counted_by_hand() -> None:
    spec = NetworkSpec(
        kind="plain",
        ndim=2,
        in_channels=1,
        outputs=2,
        features=(4, 8),
        strides=((1, 1), (2, 2)),
        kernel_sizes=((3, 3), (3, 3)),
        blocks_encoder=(1, 1),
        blocks_decoder=(1,),
    )
    assert stage_sizes(spec, (8, 6)) == ((8, 6), (4, 3))
    # 4 maps of 48 and 8 maps of 12 down; transposed convolution and convolution with 4 maps of 48 each up; 2 outputs of 48
    assert activations(spec, (8, 6)) == 4 * 48 + 8 * 12 + 2 * 4 * 48 + 2 * 48
    # weights + bias + scale and shift of the norm: 1→4, 4→8, 8→4 after joining; 8→4 transposed with 2×2; head 4→2
    assert parameters(spec) == (36 + 12) + (288 + 24) + (288 + 12) + (8 * 4 * 4 + 4) + (4 * 2 + 2)


def test_residual_projection_has_no_bias() -> None:
    spec = NetworkSpec(
        kind="residual",
        ndim=2,
        in_channels=1,
        outputs=2,
        features=(4, 8),
        strides=((1, 1), (2, 2)),
        kernel_sizes=((3, 3), (3, 3)),
        blocks_encoder=(1, 1),
        blocks_decoder=(1,),
    )
    stem, first = 36 + 12, 2 * (144 + 12)
    second = (288 + 24) + (576 + 24) + (4 * 8 + 2 * 8)  # two convolutions, projection 4→8 with norm and without bias
    assert parameters(spec) == stem + first + second + (8 * 4 * 4 + 4) + (288 + 12) + (4 * 2 + 2)


def test_widths_that_stay_need_no_projection_but_their_skip_still_counts() -> None:
    """A stage that halves without widening pools its skip: nnU-Net counts the pooled map though no weight belongs to it."""
    narrow = NetworkSpec(
        kind="residual",
        ndim=2,
        in_channels=1,
        outputs=2,
        features=(4, 4),
        strides=((1, 1), (2, 2)),
        kernel_sizes=((3, 3), (3, 3)),
        blocks_encoder=(1, 1),
        blocks_decoder=(1,),
    )
    # stem 4·64, stage 0 2·4·64, stage 1 3·4·16, decoder 2·4·64, head 2·64
    assert activations(narrow, (8, 8)) == 256 + 512 + 192 + 512 + 128
