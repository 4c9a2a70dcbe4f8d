"""The drawing of a U-Net: all of a plan's numbers are in it as text, and nothing lies over anything else."""

import itertools
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("matplotlib")
import matplotlib.image
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle
from matplotlib.text import Text

from autounet.networks.cost import output_size, stage_sizes
from autounet.plan import Configuration, NetworkSpec, Normalization
from autounet.report.network import draw_network, network_figure
from autounet.report.network_layout import decoder_groups, encoder_groups, spacings_mm, times

SVG = "{http://www.w3.org/2000/svg}"


def network(stages: int, ndim: Any = 3, kind: Any = "plain", **changed: Any) -> NetworkSpec:
    """A U-Net of any depth whose first halvings leave the first axis alone in 3D."""
    flat = ((1, 2, 2),) * min(2, stages - 1) if ndim == 3 else ()
    blocks = {"plain": (2,) * stages, "unet2015": (2,) * stages, "residual": (1, 3, 4, 6, 6, 6, 6, 6, 6)[:stages]}
    return NetworkSpec(
        kind=kind,
        ndim=ndim,
        **{
            "in_channels": 1,
            "outputs": 3,
            "features": tuple(min(512, 32 * 2**stage) for stage in range(stages)),
            "strides": ((1,) * ndim, *flat, *((2,) * ndim,) * (stages - 1 - len(flat))),
            "kernel_sizes": ((1, 3, 3) if ndim == 3 else (3, 3), *((3,) * ndim,) * (stages - 1)),
            "blocks_encoder": blocks[kind],
            "blocks_decoder": ((1,) if kind == "residual" else (2,)) * (stages - 1),
            **changed,
        },
    )


def configuration(spec: NetworkSpec, patch_size: tuple[int, ...], **changed: Any) -> Configuration:
    values: dict[str, Any] = {
        "name": "3d_fullres",
        "spacing_mm": (3.5999999, 0.625, 0.78125)[-spec.ndim :],
        "median_shape": patch_size,
        "patch_size": patch_size,
        "batch_size": 2,
        "batch_dice": False,
        "normalization": (Normalization(scheme="zscore"),) * spec.in_channels,
        "network": spec,
        "mirror_axes": (),
        "decisions": (),
    }
    return Configuration(**(values | changed))


def deep(stages: int, ndim: int, kind: str) -> Configuration:
    """A network whose coarsest maps have 4 voxels along the halved axes."""
    spec = network(stages, ndim, kind)
    return configuration(spec, tuple(4 * 2 ** sum(stride[axis] == 2 for stride in spec.strides) for axis in range(ndim)))


PAPER = network(
    5, 2, "unet2015", features=(64, 128, 256, 512, 1024), strides=((1, 1), *((2, 2),) * 4), kernel_sizes=((3, 3),) * 5, outputs=2
)
"""The U-Net of Ronneberger et al. 2015."""

CASCADE = configuration(
    network(5, in_channels=3),
    (16, 64, 64),
    name="3d_cascade_fullres",
    previous_stage="3d_lowres",
    normalization=(Normalization(scheme="ct"),),
)

CASES = {
    **{
        f"{stages} stages, {ndim}D, {kind}": deep(stages, ndim, kind)
        for stages in range(2, 10)
        for ndim in (2, 3)
        for kind in ("plain", "residual")
    },
    "unet2015": configuration(PAPER, (572, 572), spacing_mm=(1.0, 1.0)),
    "cascade": CASCADE,
    "single convolutions": configuration(network(3, blocks_encoder=(1, 1, 1), blocks_decoder=(1, 1)), (8, 16, 16)),
    "narrow": configuration(network(4, features=(2, 4, 8, 16)), (8, 16, 16)),
    "many outputs of a large patch": configuration(network(6, in_channels=16, outputs=117), (128, 1024, 1024)),
    "two stages of 2015": configuration(network(2, 2, "unet2015"), (36, 36), spacing_mm=(1.0, 1.0)),
}


Place = tuple[float, float, float, float]
"""Left, bottom, right, top in pixels."""


def boxes(figure: Figure, kind: type) -> Iterator[tuple[str, Place]]:
    """What is drawn of one kind, with the place it takes."""
    canvas: Any = figure.canvas
    for artist in figure.axes[0].findobj(kind):
        named = artist.get_text() if isinstance(artist, Text) else kind.__name__
        if named and artist is not figure.axes[0].patch:
            left, bottom, right, top = artist.get_window_extent(canvas.get_renderer()).extents.tolist()
            yield named, (left, bottom, right, top)


def overlapping(one: Place, other: Place) -> bool:
    """Whether two places share more than an edge."""
    return min(one[2], other[2]) - max(one[0], other[0]) > 0.5 and min(one[3], other[3]) - max(one[1], other[1]) > 0.5


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_nothing_lies_over_a_text_and_all_is_on_the_page(case: Configuration) -> None:
    figure = draw_network(case, "Task04_Hippocampus · 3d_fullres")
    texts, rectangles, arrows = (list(boxes(figure, kind)) for kind in (Text, Rectangle, FancyArrowPatch))
    assert len(texts) > 15
    pairs = [*itertools.combinations([*texts, *rectangles], 2), *itertools.product(texts, arrows)]
    for (one, place), (other, occupied) in pairs:
        assert not overlapping(place, occupied), (one, other)
    width, height = figure.canvas.get_width_height()
    for name, place in [*texts, *rectangles, *arrows]:
        assert min(place) >= 0, name
        assert place[2] <= width, name
        assert place[3] <= height, name


@pytest.mark.parametrize("name", ["7 stages, 3D, residual", "9 stages, 2D, plain", "unet2015", "cascade"])
def test_every_number_of_the_network_is_text_of_the_svg(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    network_figure(case, tmp_path / "network.svg", "A <title> & more")
    texts = ["".join(element.itertext()).strip() for element in ElementTree.parse(tmp_path / "network.svg").iter(f"{SVG}text")]
    assert "A <title> & more" in texts
    spec = case.network
    for feature in spec.features[:-1]:
        # beside its stage of the encoder and of the decoder
        assert texts.count(str(feature)) >= 2 * spec.features[:-1].count(feature)
    assert str(spec.features[-1]) in texts
    for size, stride in zip(stage_sizes(spec, case.patch_size), spec.strides, strict=True):
        assert times(size) in texts
        assert stride == spec.strides[0] or texts.count(times(stride)) >= 2
    assert times(output_size(spec, case.patch_size)) in texts
    assert times(case.patch_size) in texts


def test_writes_an_svg_and_a_png_of_the_same_shape(tmp_path: Path) -> None:
    network_figure(CASCADE, tmp_path / "network.png", "cascade")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["network.png", "network.svg"]
    height, width = matplotlib.image.imread(tmp_path / "network.png").shape[:2]
    root = ElementTree.parse(tmp_path / "network.svg").getroot()
    points = [float(str(root.get(side)).removesuffix("pt")) for side in ("width", "height")]
    # a point is 1/72 inch, and a pixel 1/120
    assert [width, height] == pytest.approx([point / 72 * 120 for point in points], abs=1)


def test_both_files_of_a_deep_network_take_little_time(tmp_path: Path) -> None:
    start = time.process_time()  # of this process alone, whatever else the machine does
    network_figure(CASES["9 stages, 2D, residual"], tmp_path / "network.svg", "")
    assert time.process_time() - start < 1.5


def test_the_same_plan_gives_the_same_svg(tmp_path: Path) -> None:
    for name in ("one", "two"):
        network_figure(CASCADE, tmp_path / f"{name}.svg", "cascade")
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()


def texts_of(case: Configuration) -> list[str]:
    return [text for text, _ in boxes(draw_network(case, ""), Text)]


def test_a_cascade_names_its_further_inputs() -> None:
    found = texts_of(CASCADE)
    assert found.count("1 channel") == found.count("+ 2 label maps") == found.count("of 3d_lowres") == 1


def test_unpadded_convolutions_crop_the_skips() -> None:
    """Sizes as in figure 1 of Ronneberger et al. 2015."""
    encoder = encoder_groups(PAPER, (572, 572))
    decoder = decoder_groups(PAPER, encoder)
    assert [group.size for group in encoder] == [(568, 568), (280, 280), (136, 136), (64, 64), (28, 28)]
    assert [group.raised for group in decoder] == [(392, 392), (200, 200), (104, 104), (56, 56)]
    assert [group.size for group in decoder] == [(388, 388), (196, 196), (100, 100), (52, 52)]
    found = texts_of(CASES["unet2015"])
    assert {"572×572", "388×388", "crop to 392×392", "crop to 56×56", "max pooling"} <= set(found)
    assert not any(text.startswith("loss") or text.endswith(" mm") for text in found)


def test_deep_supervision_halves_its_weight_and_leaves_the_coarsest_out() -> None:
    weights = [text for text in texts_of(deep(5, 3, "plain")) if text.startswith("loss")]
    assert weights == ["loss × 1", "loss × 1/2", "loss × 1/4", "loss × 0"]
    assert not [text for text in texts_of(deep(2, 3, "plain")) if text.startswith("loss")]  # a lone output has nothing to be weighed with


def test_kernels_are_named_where_they_are_not_3() -> None:
    found = texts_of(deep(3, 3, "residual"))
    assert found.count("1 block, 1×3×3") == 1
    assert found.count("1 conv, 1×3×3") == 1
    assert found.count("3 blocks") == 1


def test_spacing_grows_with_the_strides() -> None:
    # the strides are 1×2×2, 1×2×2 and 2×2×2
    spacings = [tuple(round(value, 4) for value in entry) for entry in spacings_mm(deep(4, 3, "plain"))]
    assert spacings == [(3.6, 0.625, 0.7812), (3.6, 1.25, 1.5625), (3.6, 2.5, 3.125), (7.2, 5.0, 6.25)]
    assert times(spacings_mm(deep(4, 3, "plain"))[0]) == "3.6×0.625×0.781"


def test_draws_without_pyplot_and_torch(tmp_path: Path) -> None:
    import subprocess
    import sys

    code = (
        "import sys; from autounet.report.network import network_figure; assert 'matplotlib' not in sys.modules;"
        "from pathlib import Path; from autounet.plan import Configuration;"
        f"network_figure(Configuration.model_validate_json({CASCADE.model_dump_json()!r}), Path({str(tmp_path / 'x.svg')!r}), '');"
        "assert not {'matplotlib.pyplot', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])
