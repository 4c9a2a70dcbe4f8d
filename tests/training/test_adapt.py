"""Pretrained weights in another network: what both have computes the same, what is new is as it was drawn."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from autounet.errors import UsageError
from autounet.labels import LabelSpec, StructureClass
from autounet.networks.build import Network, build_network
from autounet.plan import Configuration, NetworkSpec, Normalization
from autounet.training.adapt import Terms, adapt_weights


def terms(
    inputs: Sequence[str] = ("T1",),
    classes: Sequence[str] = ("liver", "tumour"),
    overlapping: bool = False,
    spacing: float = 1.0,
    scheme: Any = "zscore",
    **network: Any,
) -> Terms:
    """A network of three stages in 3D; ``network`` changes its numbers."""
    ndim = network.get("ndim", 3)
    numbers: dict[str, Any] = {
        "kind": "plain", "ndim": ndim, "features": (4, 6, 8), "strides": ((1,) * ndim, (2,) * ndim, (2,) * ndim),
        "kernel_sizes": ((3,) * ndim,) * 3, "blocks_encoder": (1, 1, 1), "blocks_decoder": (1, 1), **network,
    }  # fmt: skip
    labels = LabelSpec(
        classes=tuple(StructureClass(name=name, values=(value,)) for value, name in enumerate(classes, start=1)),
        overlapping=overlapping,
        paint_order=tuple(range(1, len(classes) + 1)) if overlapping else (),
    )
    spec = NetworkSpec(in_channels=len(inputs), outputs=labels.outputs, **numbers)
    return Terms(
        Configuration(
            name="3d_fullres", spacing_mm=(spacing,) * ndim, median_shape=(16.0,) * ndim, patch_size=(16,) * ndim, batch_size=2,
            batch_dice=False, normalization=(Normalization(scheme=scheme),) * len(inputs), network=spec,
            mirror_axes=(), decisions=(),
        ),
        labels,
        tuple(inputs),
    )  # fmt: skip


STAGES = {
    "plain": {},
    "residual": {"kind": "residual", "blocks_encoder": (1, 2, 2)},
    "unet2015": {
        "kind": "unet2015", "ndim": 2, "features": (4, 8), "strides": ((1, 1), (2, 2)), "kernel_sizes": ((3, 3), (3, 3)),
        "blocks_encoder": (2, 2), "blocks_decoder": (2,),
    },
}  # fmt: skip


def trained(of: Terms) -> dict[str, Tensor]:
    """Weights in which no number is what a fresh network has, also in norms and biases."""
    generator = torch.Generator().manual_seed(1)
    return {
        name: tensor + 0.3 * torch.randn(tensor.shape, generator=generator)
        for name, tensor in build_network(of.spec, seed=5).state_dict().items()
    }


def adapted(source: Terms, target: Terms) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor], list[str]]:
    """Trained weights, fresh weights, what became of them, and the notes."""
    old, fresh = trained(source), build_network(target.spec, seed=9).state_dict()
    new, notes = adapt_weights(old, source, target, fresh)
    assert {name: tensor.shape for name, tensor in new.items()} == {name: tensor.shape for name, tensor in fresh.items()}
    return old, fresh, new, notes


def network(of: Terms, weights: dict[str, Tensor]) -> Network:
    built = build_network(of.spec)
    built.load_state_dict(weights)
    return built.eval()


def scores(of: Terms, weights: dict[str, Tensor], image: Tensor) -> list[Tensor]:
    """At every resolution; dropout, where there is any, is the same in every call."""
    with torch.no_grad():
        return network(of, weights).train()(image)


def image_of(*channels: Tensor) -> Tensor:
    return torch.stack(channels)[None]


def noise(of: Terms, seed: int) -> Tensor:
    return torch.randn((32, 32) if of.spec.ndim == 2 else (8, 16, 16), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", STAGES)
def test_the_same_network_takes_everything(kind: str) -> None:
    old, _, new, notes = adapted(terms(**STAGES[kind]), terms(**STAGES[kind]))
    assert all(torch.equal(new[name], old[name]) for name in old)
    assert notes == ["100.0 % of the network's numbers come from the pretrained weights"]


@pytest.mark.parametrize("kind", STAGES)
def test_a_channel_more_changes_nothing_at_first(kind: str) -> None:
    """FLAIR's filters are zero, so the scores are those of T1 alone, whatever FLAIR shows."""
    source, target = terms(("T1",), **STAGES[kind]), terms(("FLAIR", "t1"), **STAGES[kind])
    old, _, new, notes = adapted(source, target)
    t1, flair = noise(source, 0), noise(source, 1)
    before, after = scores(source, old, image_of(t1)), scores(target, new, image_of(flair, t1))
    for expected, found in zip(before, after, strict=True):
        torch.testing.assert_close(found, expected)
    assert notes[1:] == ["first layer: channel 'FLAIR' is new and begins at zero, 't1' is taken from 'T1'"]


def test_channels_go_by_their_names_and_not_by_their_order() -> None:
    source, target = terms(("T1", "T2", "FLAIR")), terms(("FLAIR", "T1"))
    old, _, new, notes = adapted(source, target)
    t1, flair, none = noise(source, 0), noise(source, 1), torch.zeros(8, 16, 16)
    torch.testing.assert_close(scores(target, new, image_of(flair, t1))[0], scores(source, old, image_of(t1, none, flair))[0])
    assert notes[1].endswith("'FLAIR' is taken from 'FLAIR', 'T1' is taken from 'T1', 'T2' of the pretrained network is left out")


def test_unknown_channels_go_by_position_where_there_are_as_many() -> None:
    source, target = terms(("red", "green")), terms(("T1", "T2"))
    old, _, new, notes = adapted(source, target)
    assert torch.equal(new["encoder.stages.0.0.conv.weight"], old["encoder.stages.0.0.conv.weight"])
    assert notes[1] == "first layer: no channel has a known name, so they are matched by position: 'T1' from 'red', 'T2' from 'green'"


@pytest.mark.parametrize(("before", "after"), [(1, 3), (3, 1), (3, 2)])
def test_other_numbers_of_unknown_channels_see_a_grey_image_alike(before: int, after: int) -> None:
    """Each new channel gets 1/n of the sum of all filters: the same image in all channels gives the same scores."""
    source, target = terms([f"old {n}" for n in range(before)]), terms([f"new {n}" for n in range(after)])
    old, _, new, notes = adapted(source, target)
    grey = noise(source, 0)
    found, expected = scores(target, new, image_of(*[grey] * after))[0], scores(source, old, image_of(*[grey] * before))[0]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert notes[1].startswith("first layer: no channel has a known name: ")


def test_a_class_of_the_same_name_has_the_same_scores_at_every_resolution() -> None:
    source, target = terms(classes=("liver", "tumour", "spleen")), terms(classes=("kidney", "Tumour", "liver"))
    old, fresh, new, notes = adapted(source, target)
    image = image_of(noise(source, 0))
    before, after = scores(source, old, image), scores(target, new, image)
    assert len(after) == 2
    for expected, found in zip(before, after, strict=True):
        assert torch.equal(found[:, [0, 2, 3]], expected[:, [0, 2, 1]])  # background, tumour, liver
    assert torch.equal(new["heads.1.weight"][1], fresh["heads.1.weight"][1])
    assert notes[1] == "heads: 'Tumour', 'liver' kept, 'kidney' new, 'spleen' left out"


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (terms(classes=("kidney", "spleen")), "no class has a known name (pretrained: liver, tumour)"),
        (terms(overlapping=True), "has classes that exclude each other and this one overlapping regions"),
    ],
)
def test_heads_are_new_where_nothing_is_known_or_scores_mean_something_else(target: Terms, words: str) -> None:
    old, fresh, new, notes = adapted(terms(), target)
    assert all(torch.equal(new[name], fresh[name]) for name in fresh if name.startswith("heads"))
    assert all(torch.equal(new[name], old[name]) for name in fresh if not name.startswith("heads"))
    assert words in notes[1]


FLAT = {"kernel_sizes": ((1, 3, 3), (3, 3, 3), (3, 3, 3)), "strides": ((1, 1, 1), (1, 2, 2), (2, 2, 2))}


def test_a_kernel_that_grows_computes_the_same() -> None:
    source = terms(kernel_sizes=FLAT["kernel_sizes"])
    old, _, new, notes = adapted(source, terms())
    image = image_of(noise(source, 0))
    torch.testing.assert_close(scores(terms(), new, image)[0], scores(source, old, image)[0])
    assert notes[1:] == ["stage 1: kernels of 3×3×3 made from 1×3×3"]


def test_a_kernel_that_shrinks_is_summed_up() -> None:
    """Of 5 taps a b c d e along an axis 3 remain: a+b, c, d+e; of 3 taps 1: their sum."""
    wide = terms(kernel_sizes=((5, 3, 3), (3, 3, 3), (3, 3, 3)))
    old, _, new, _ = adapted(wide, terms())
    a, b, c, d, e = old["encoder.stages.0.0.conv.weight"].unbind(2)
    torch.testing.assert_close(new["encoder.stages.0.0.conv.weight"], torch.stack([a + b, c, d + e], 2))
    old, _, new, _ = adapted(terms(), terms(kernel_sizes=FLAT["kernel_sizes"]))
    torch.testing.assert_close(new["decoder.1.convs.0.conv.weight"], old["decoder.1.convs.0.conv.weight"].sum(2, keepdim=True))


def test_up_convolutions_are_repeated_or_averaged() -> None:
    """From strides 1×2×2 to 2×2×2 both new slices are the old one; on the way back they are averaged."""
    old, _, new, notes = adapted(terms(strides=FLAT["strides"]), terms())
    up = "decoder.1.up.weight"
    assert torch.equal(new[up], old[up].expand(-1, -1, 2, -1, -1))
    assert notes[1:] == ["stage 2: reached by strides of 2×2×2 in place of 1×2×2"]
    old, _, new, _ = adapted(terms(), terms(strides=FLAT["strides"]))
    torch.testing.assert_close(new[up], (old[up][:, :, :1] + old[up][:, :, 1:]) / 2)


DEEPER = {
    "features": (4, 6, 8, 10), "strides": ((1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2)), "kernel_sizes": ((3, 3, 3),) * 4,
    "blocks_encoder": (1, 1, 1, 1), "blocks_decoder": (1, 1, 1),
}  # fmt: skip


def test_another_depth_is_matched_from_the_finest_stage() -> None:
    """Decoder and heads are counted from the coarsest: with a stage more, all their numbers move by one."""
    old, fresh, new, notes = adapted(terms(), terms(**DEEPER))
    assert notes[1:] == ["depth: 4 stages in place of 3; the coarsest are new"]
    for name in fresh:
        part, number, *rest = name.split(".")
        if part == "encoder":
            assert torch.equal(new[name], (fresh if rest[0] == "3" else old)[name])
        elif number == "0":
            assert torch.equal(new[name], fresh[name])
        else:
            assert torch.equal(new[name], old[".".join([part, str(int(number) - 1), *rest])])
    old, fresh, new, notes = adapted(terms(**DEEPER), terms())
    assert notes == [
        "100.0 % of the network's numbers come from the pretrained weights",
        "depth: 3 stages in place of 4; the coarsest are left out",
    ]
    assert torch.equal(new["heads.1.weight"], old["heads.2.weight"])


def test_other_widths_and_blocks_stay_fresh_and_the_rest_is_taken() -> None:
    """Stage 3 has other features: its layers and the up-convolution out of it are new, with their norms."""
    old, fresh, new, notes = adapted(terms(), terms(features=(4, 6, 9)))
    untouched = {name for name in fresh if torch.equal(new[name], fresh[name])}
    layers = ("encoder.stages.2.", "decoder.0.up.")
    assert untouched == {name for name in fresh if name.startswith(layers)}
    assert notes[1:] == ["stage 3: 9 feature maps in place of 8; what sees or makes them is new"]
    share = 100 * sum(old[name].numel() for name in fresh if name not in untouched) / sum(tensor.numel() for tensor in fresh.values())
    assert notes[0].startswith(f"{share:.1f} %")
    old, fresh, new, notes = adapted(terms(), terms(blocks_encoder=(1, 2, 1)))
    assert {name for name in fresh if torch.equal(new[name], fresh[name])} == {
        name for name in fresh if name.startswith("encoder.stages.1.1.")
    }
    assert notes[1:] == ["stage 2: 2 blocks in place of 1; those beyond are new"]


def test_other_images_are_spoken_of() -> None:
    _, _, _, notes = adapted(terms(spacing=1.0), terms(spacing=0.5, scheme="ct"))
    assert notes[1:] == [
        "spacing: 1×1×1 → 0.5×0.5×0.5 mm; the filters see structures in another size",
        "normalisation: zscore → ct; the filters see other intensities",
    ]


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (terms(**STAGES["residual"]), r"found a plain U-Net, expected a U-Net with a residual encoder.*\. Plan with the preset"),
        (terms(ndim=2), r"found 3D, expected 2D.*\. Train a 3D configuration with -c"),
        (terms(features=(5, 6, 8)), r"found 4 feature maps in it, expected 5, as in the plan\. Plan with --features 4,6,8"),
    ],
)
def test_networks_with_nothing_in_common_are_refused(target: Terms, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        adapted(terms(), target)
