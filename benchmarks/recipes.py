"""Recipes of training beside each other: the same network, cases and number of steps, so that only the recipe differs.

``python -m benchmarks.recipes --dataset PATH --out DIR [--folds 0,1] [--epochs 10] [--iterations 25] [--features 8] [RECIPE …]``
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from autounet.evaluation.scores import Scores
from autounet.layout import RunLayout
from autounet.planners.presets import PRESETS
from autounet.preset import NNUNET_OPTIMIZER, OptimizerSpec
from benchmarks.measure import AUTOUNET, CommandFailed, machine, run_measured, show_table, write_json

SMALL = PRESETS["small"].optimizer
BY_STEPS = {"every_step": True, "warm_up": 0.05}

RECIPES: dict[str, tuple[OptimizerSpec, str]] = {
    "preset small": (SMALL, "nnunet"),
    "nnU-Net's optimizer": (NNUNET_OPTIMIZER, "nnunet"),
    "rate by steps, warm-up": (SMALL.model_copy(update=BY_STEPS), "nnunet"),
    "mean weights": (SMALL.model_copy(update={"average": 0.99}), "nnunet"),
    "rate by steps, warm-up, mean weights": (SMALL.model_copy(update=BY_STEPS | {"average": 0.99}), "nnunet"),
    "AdamW": (OptimizerSpec(kind="adamw", learning_rate=1e-3, weight_decay=1e-2, every_step=True, warm_up=0.05), "nnunet"),
    "AdamW, faster": (OptimizerSpec(kind="adamw", learning_rate=3e-3, weight_decay=1e-2, every_step=True, warm_up=0.05), "nnunet"),
    "light augmentation": (SMALL, "light"),
    "no augmentation": (SMALL, "none"),
}
"""Optimizer and augmentation, by name."""


def run(recipe: str, dataset: Path, fold: str, arguments: argparse.Namespace, out: Path) -> dict[str, Any]:
    """Trains one fold by the public command with a preset of its own. Raises CommandFailed."""
    optimizer, augmentation = RECIPES[recipe]
    small = PRESETS["small"]
    assert small.volumetric is not None
    most = min(small.volumetric.max_features, 8 * arguments.features)
    preset = small.model_copy(
        update={
            "name": "recipe",
            "features": (arguments.features,),
            "volumetric": small.volumetric.model_copy(update={"max_features": most}),
            "optimizer": optimizer,
        }
    )
    folder = out / recipe.replace(" ", "_").replace(",", "").replace("'", "")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "preset.json").write_text(preset.model_dump_json(), encoding="utf-8")
    command = [*AUTOUNET, "train", "-d", dataset, "-f", fold, "--preset", folder / "preset.json", "--augmentation", augmentation]
    command += [
        "--epochs",
        str(arguments.epochs),
        "--iterations",
        str(arguments.iterations),
        "--runs",
        folder,
        "--device",
        arguments.device,
    ]
    measured = run_measured(command, log=folder / f"fold_{fold}.log")
    file = next(RunLayout(folder / dataset.name).models.glob(f"*/fold_{fold}/scores.json"))
    history = [json.loads(line) for line in file.with_name("history.jsonl").read_text(encoding="utf-8").splitlines()]
    return {
        "recipe": recipe,
        "fold": fold,
        "dice": Scores.load(file).mean.dice,
        "online_dice": history[-1]["mean_dice"],
        "loss": history[-1]["train_loss"],
        "seconds": measured.seconds,
    }


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recipes", description=__doc__.splitlines()[0])
    parser.add_argument("recipes", nargs="*", metavar="RECIPE", help=f"of {'; '.join(RECIPES)} (default: all)")
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="a new folder for presets, runs, logs and the result")
    parser.add_argument("--folds", default="0")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--iterations", type=int, default=25)
    parser.add_argument("--features", type=int, default=8, help="of the first stage; half of the preset's by default, to be quick")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.recipes if name not in RECIPES]
    if unknown:
        parser.error(f"no such recipe: {', '.join(unknown)}")
    about, dataset, out = machine(), arguments.dataset.resolve(), arguments.out.resolve()
    found: list[dict[str, Any]] = []
    try:
        for fold in arguments.folds.split(","):
            for recipe in arguments.recipes or RECIPES:
                found.append(run(recipe, dataset, fold, arguments, out))
                row = found[-1]
                print(f"fold {fold}, {recipe}: Dice {row['dice']:.4f}, online {row['online_dice']:.4f}, loss {row['loss']:.3f}", flush=True)
    except CommandFailed as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    rows = []
    for recipe in dict.fromkeys(row["recipe"] for row in found):
        dice = [row["dice"] for row in found if row["recipe"] == recipe]
        rows.append((recipe, f"{sum(dice) / len(dice):.4f}", " ".join(f"{value:.4f}" for value in dice)))
    title = f"{dataset.name}: {arguments.epochs} × {arguments.iterations} steps, {arguments.features} features"
    show_table(title, ("recipe", "mean Dice", "folds"), rows)
    write_json(out / "recipes.json", {"machine": about, "steps": [arguments.epochs, arguments.iterations], "results": found})
    return 0


if __name__ == "__main__":
    sys.exit(main())
