"""Training curves."""

import math
from pathlib import Path

import pytest

pytest.importorskip("matplotlib")
import matplotlib.image

from autounet.report.figures import progress_figure
from autounet.report.progress import best_epoch


def row(epoch: int, ema: float | None, **more: object) -> dict[str, object]:
    losses = {"train_loss": 0.5, "validation_loss": 0.6, "learning_rate": 0.01, "seconds": 8.0}
    return {"epoch": epoch, "dice": {"organ": 0.7, "lesion": None}, "mean_dice": 0.7, "ema_dice": ema, **losses, **more}


@pytest.mark.parametrize(
    "history",
    [
        [],
        [row(0, 0.4)],
        [row(epoch, 0.01 * epoch) for epoch in range(40)],
        [row(0, None, validation_loss=None, seconds=math.nan, dice=None), row(1, 0.3, train_loss=math.inf)],
        [row(epoch, 0.5, dice={f"class_{number}": 0.5 for number in range(60)}) for epoch in range(3)],
        [{"epoch": 0}],
    ],
    ids=["nothing", "one", "many", "gaps", "sixty classes", "epoch alone"],
)
def test_is_a_png_of_the_stated_size(history: list[dict[str, object]], tmp_path: Path) -> None:
    path = tmp_path / "progress.png"
    progress_figure(history, path, "fold 0")
    # 13.5 x 4.2 inches at 120 dpi
    assert matplotlib.image.imread(path).shape[:2] == (504, 1620)
    assert [file.name for file in tmp_path.iterdir()] == ["progress.png"]


def test_the_best_epoch_is_the_first_with_the_highest_smoothed_dice() -> None:
    assert best_epoch([row(5, 0.2), row(6, None), row(7, 0.8), row(8, 0.8), row(9, math.nan)]) == 2
    assert best_epoch([row(0, None)]) is None


def test_draws_without_pyplot(tmp_path: Path) -> None:
    # pyplot keeps every figure it makes; one picture per epoch would fill the memory.
    import subprocess
    import sys

    code = (
        "import sys; from pathlib import Path; from autounet.report.figures import progress_figure;"
        "assert 'matplotlib' not in sys.modules;"
        f"progress_figure([], Path({str(tmp_path / 'x.png')!r}), ''); assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])
