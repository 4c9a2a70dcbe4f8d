"""Overlay figures: which slice, which cases, which errors, and what size on the page."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib")
import matplotlib.image

from autounet.colours import class_colours
from autounet.report import overlay
from autounet.report.figures import OverlayRow, overlay_figure
from autounet.report.overlay import choose_rows, choose_slice, error_map, intensity_window, mean_dice


def case(
    name: str = "case", shape: tuple[int, int, int] = (5, 20, 30), spacing: tuple[float, float, float] = (3.0, 1.0, 1.0), **more: object
) -> OverlayRow:
    rng = np.random.default_rng(0)
    truth = np.zeros(shape, np.uint8)
    truth[shape[0] // 2, 5:12, 5:15] = 1
    fields = {"truth_zyx": truth, "prediction_zyx": np.roll(truth, 1, 2), "dice": {"organ": 0.9}} | more
    return OverlayRow(case=name, image_zyx=rng.normal(size=shape).astype(np.float32), spacing_mm_zyx=spacing, **fields)  # type: ignore[arg-type]


def test_the_slice_has_most_foreground_of_the_truth() -> None:
    truth, prediction = np.zeros((2, 4, 3, 3), np.uint8)
    truth[1, 0, :2] = 1  # two voxels
    truth[2, 0, :3] = 2  # three
    truth[3] = 9  # nine that are not annotated
    prediction[0] = 1
    assert choose_slice(truth, prediction, classes=2) == 2
    assert choose_slice(None, prediction, classes=2) == 0
    assert choose_slice(np.zeros_like(truth), prediction, classes=2) == 0
    assert choose_slice(None, np.zeros_like(truth), classes=2) == 2


def test_errors_are_told_apart() -> None:
    #                 right missed extra  other  right  ignored ignored
    truth = np.array([[1, 1, 0, 2, 0, 3, 3]])
    found = np.array([[1,    0,     2,     1,     0,     0,      1]])  # fmt: skip
    assert error_map(truth, found, classes=2).tolist() == [[0, 1, 2, 3, 0, 4, 4]]


def test_worst_median_and_best_cases_are_taken() -> None:
    rows = [case(str(number), dice={"organ": number / 100}) for number in np.random.default_rng(0).permutation(101)]
    chosen = choose_rows([*rows, case("unscored", dice={"organ": None})], limit=9)
    # 101 ranked cases: the middle three are 49, 50, 51.
    assert [row.case for row in chosen] == ["0", "1", "2", "49", "50", "51", "98", "99", "100"]
    assert choose_rows(rows[:5], limit=9) == rows[:5]
    unscored = [case(str(number), dice={}) for number in range(20)]
    assert choose_rows(unscored, limit=9) == unscored[:9]
    assert mean_dice({"a": 0.5, "b": None, "c": 1.0}) == 0.75


def test_intensity_window() -> None:
    # 0..1000: the 0.5 and 99.5 percentiles are 5 and 995.
    assert intensity_window(np.arange(1001)) == (5, 995)
    assert intensity_window(np.array([2.0, 2.0])) == (1.5, 2.5)
    spike = np.zeros(1000)
    spike[0] = 7
    assert intensity_window(spike) == (0, 7)
    assert intensity_window(np.array([np.nan, 1.0, 2.0]))[1] == pytest.approx(1.995)


def panel_size(path: Path, page_width: float) -> tuple[int, int]:
    """Height and width (pixels) of the dark first panel of a figure."""
    pixels = matplotlib.image.imread(path)[..., :3]
    dark = (pixels < 0.02).all(-1)[:, : round((overlay.MARGIN + overlay.PANEL + overlay.GAP / 2) * 120)]
    rows, columns = np.nonzero(dark.sum(1) > 60)[0], np.nonzero(dark.sum(0) > 60)[0]
    assert pixels.shape[1] == pytest.approx(page_width * 120, abs=1)
    return int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1


@pytest.mark.parametrize(
    ("shape", "spacing", "ratio"),
    [
        ((1, 40, 40), (1.0, 1.0, 1.0), 1.0),
        # 20 voxels of 2 mm high, 50 of 1 mm wide: 40 : 50
        ((4, 20, 50), (1.0, 2.0, 1.0), 0.8),
        # 60 voxels of 0.5 mm high, 20 of 1.25 mm wide: 30 : 25
        ((4, 60, 20), (5.0, 0.5, 1.25), 1.2),
        # Taller than a row may be (5 : 1): the row is 1.4 times as high as wide, the panel narrower.
        ((4, 50, 10), (1.0, 1.0, 1.0), 5.0),
    ],
)
def test_images_have_their_physical_aspect(
    shape: tuple[int, int, int], spacing: tuple[float, float, float], ratio: float, tmp_path: Path
) -> None:
    nothing = np.zeros(shape, np.uint8)
    row = OverlayRow("", np.ones(shape), nothing, nothing, spacing, {})
    row.image_zyx[:] = -1
    row.image_zyx[:, 0, 0] = 1  # one bright voxel, so that all others are black
    overlay_figure([row], tmp_path / "x.png", ["organ"], "")
    height, width = panel_size(tmp_path / "x.png", page_width=2 * 0.15 + 4 * (2.35 + 0.08) + 2.1)
    assert height / width == pytest.approx(ratio, rel=0.05)
    assert max(height / (2.35 * 120 * 1.4), width / (2.35 * 120)) == pytest.approx(1, abs=0.02) or ratio == 1.2


def test_one_row_per_case_and_no_more_than_the_limit(tmp_path: Path) -> None:
    heights = []
    for count in (1, 2, 12, 40):
        overlay_figure([case(str(number)) for number in range(count)], tmp_path / "x.png", ["organ"], "title")
        heights.append(matplotlib.image.imread(tmp_path / "x.png").shape[0])
    # A row: 20/30 of 2.35 inches, and the gap of 0.08, at 120 dpi = 197.6 pixels
    assert heights[1] - heights[0] == pytest.approx(197.6, abs=1)
    assert heights[2] - heights[0] == pytest.approx(11 * 197.6, abs=1)
    assert heights[3] == heights[2]


def test_without_truth_there_are_two_columns(tmp_path: Path) -> None:
    overlay_figure([case(truth_zyx=None, dice={})], tmp_path / "x.png", ["organ"], "title")
    assert matplotlib.image.imread(tmp_path / "x.png").shape[1] == pytest.approx(120 * (2 * 0.15 + 2 * (2.35 + 0.08) + 2.1), abs=1)


def test_unusual_cases_are_drawn(tmp_path: Path) -> None:
    names = [f"structure $_{number}" for number in range(60)]
    labels = np.arange(5 * 20 * 30).reshape(5, 20, 30) % 62  # 61 is not annotated
    rows = [
        case("mixed: no truth", truth_zyx=None),
        case("$many classes$ " * 9, truth_zyx=labels, prediction_zyx=labels[:, ::-1], dice=dict.fromkeys(names, 0.5)),
        case("one voxel wide", shape=(1, 20, 1), truth_zyx=None, prediction_zyx=np.ones((1, 20, 1), np.int64), dice={names[0]: None}),
        case("empty", truth_zyx=np.zeros((5, 20, 30), int), prediction_zyx=np.zeros((5, 20, 30), int)),
    ]
    overlay_figure(rows, tmp_path / "x.png", names, "title " * 40)
    assert (tmp_path / "x.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    with pytest.raises(ValueError, match="at least one"):
        overlay_figure([], tmp_path / "y.png", names, "")


@pytest.mark.parametrize("count", [0, 1, 7, 8, 60])
def test_colours_are_all_different(count: int) -> None:
    colours = class_colours(count)
    assert len(set(colours)) == len(colours) == count
