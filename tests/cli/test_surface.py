"""The contract with the user: every command and every option, written out. A change here is a change for everybody's scripts."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import typer

from autounet import __version__
from autounet.cli.main import app

COMMON = {"--quiet -q", "--verbose -v", "--debug"}

SURFACE = {
    "plan": COMMON
    | {"--dataset -d", "--preset", "--gpu-memory", "--overwrite", "--data", "--runs", "--workers", "--json"}
    | {"--spacing", "--patch-size", "--batch-size", "--normalization", "--mirror-axes", "--features", "--reset"}
    | {"--fingerprint", "--dataset-json", "--compare", "--splits"},
    "train": COMMON
    | {"--dataset -d", "--fold -f", "--configuration -c", "--preset", "--epochs", "--iterations", "--budget", "--resume --no-resume"}
    | {"--early-stop", "--recipe", "--augmentation", "--class-weights", "--init", "--track"}
    | {"--overwrite", "--seed", "--device", "--precision", "--data", "--runs", "--workers"},
    "predict": COMMON
    | {"--input -i", "--output -o", "--dataset -d", "--model -m", "--configuration -c", "--fold -f", "--mirror --no-mirror"}
    | {"--postprocessing --no-postprocessing", "--probabilities", "--uncertainty", "--memory"}
    | {"--overwrite", "--device", "--precision", "--runs", "--workers", "--json"},
    "export": COMMON
    | {"--dataset -d", "--output -o", "--configuration -c", "--fold -f", "--licence", "--description", "--overwrite", "--runs", "--json"},
    "import": COMMON
    | {"model", "--output -o", "--checkpoint", "--fold -f", "--name", "--licence", "--description", "--overwrite", "--json"},
    "preprocess": COMMON | {"--dataset -d", "--configuration -c", "--preset", "--data", "--runs", "--workers"},
    "evaluate": COMMON | {"--predictions -p", "--labels -g", "--dataset -d", "--csv", "--latex", "--tolerance", "--present"}
    | {"--data", "--workers", "--json"},
    "run": COMMON
    | {"--dataset -d", "--configuration -c", "--fold -f", "--preset", "--budget", "--epochs", "--iterations", "--recipe"}
    | {"--dry-run", "--overwrite"}
    | {"--seed", "--device", "--precision", "--data", "--runs", "--workers"},
    "select": COMMON
    | {"--dataset -d", "--rule", "--ensembles --no-ensembles", "--overwrite"}
    | {"--device", "--precision", "--data", "--runs", "--workers", "--json"},
    "ensemble": COMMON | {"--input -i", "--output -o", "--dataset -d", "--overwrite", "--data", "--runs", "--workers", "--json"},
    "doctor": COMMON | {"--dataset -d", "--data", "--runs", "--workers", "--json"},
    "report": COMMON | {"--dataset -d", "--output -o", "--overwrite", "--data", "--runs", "--json"},
    "demo": {"--output -o", "--budget", "--device", "--debug"},
    "dataset create": COMMON
    | {"folder", "--images", "--labels", "--table", "--channel", "--class", "--classes", "--id", "--patient"}
    | {"--dry-run", "--overwrite", "--workers", "--json"},
    "dataset add": COMMON
    | {"--dataset -d", "--images", "--labels", "--table", "--id", "--patient", "--dry-run", "--data", "--runs", "--workers"},
    "dataset show": COMMON | {"--dataset -d", "--data", "--runs", "--json"},
}  # fmt: skip

REQUIRED = {
    "plan": set(),
    "train": {"--dataset -d", "--fold -f"},
    "predict": {"--input -i", "--output -o"},
    "export": set(),
    "import": {"model", "--output -o"},
    "preprocess": {"--dataset -d"},
    "evaluate": {"--predictions -p", "--labels -g"},
    "run": {"--dataset -d"},
    "select": {"--dataset -d"},
    "ensemble": {"--input -i", "--output -o", "--dataset -d"},
    "doctor": set(),
    "report": {"--dataset -d"},
    "demo": set(),
    "dataset create": {"folder"},
    "dataset add": {"--dataset -d"},
    "dataset show": {"--dataset -d"},
}


def flat(commands: dict[str, Any], before: str = "") -> dict[str, Any]:
    """Commands by their whole names: of a group its own."""
    found: dict[str, Any] = {}
    for name, command in commands.items():
        inner = getattr(command, "commands", None)
        found |= {f"{before}{name}": command} if inner is None else flat(inner, f"{before}{name} ")
    return found


COMMANDS = flat(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


def spelled(option: Any) -> str:
    return " ".join(sorted([*option.opts, *option.secondary_opts], key=lambda name: (not name.startswith("--"), name.startswith("--no-"))))


def test_commands() -> None:
    assert set(COMMANDS) == set(SURFACE)


@pytest.mark.parametrize("command", SURFACE)
def test_options(command: str) -> None:
    options = {spelled(option): option for option in COMMANDS[command].params}
    assert set(options) == SURFACE[command]
    assert {name for name, option in options.items() if option.required} == REQUIRED[command]
    assert all(option.help for option in options.values())


@pytest.mark.parametrize("command", SURFACE)
def test_help_names_every_option(command: str, autounet: Callable[..., Any]) -> None:
    ended = autounet(*command.split(), "-h")
    assert ended.code == 0
    for option in SURFACE[command]:
        assert all(name in ended.out for name in option.split()), option


def test_version(autounet: Callable[..., Any]) -> None:
    ended = autounet("--version")
    assert (ended.code, ended.out) == (0, f"autounet {__version__}\n")


def test_help_is_instructive(autounet: Callable[..., Any]) -> None:
    ended = autounet("--help")
    assert ended.code == 0
    assert "Three commands: plan looks at the data and decides, train learns, predict segments new images." in ended.text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "Usage: autounet"),
        (["plann", "-d", "x"], "No such command 'plann'"),
        (["plan"], "nothing to plan for. Give -d DATASET, or --fingerprint FILE"),
        (["train", "-d", "x"], "Missing option '-f' / '--fold'"),
        (["plan", "-d", "x", "--presett", "small"], "No such option: --presett"),
        (["plan", "-d", "x", "surplus"], "unexpected extra argument"),
        (["plan", "-d", "x", "--gpu-memory", "much"], "'--gpu-memory'"),
        (["train", "-d", "x", "-f", "0", "--epochs", "0"], "'--epochs'"),
        (["train", "-d", "x", "-f", "0", "--iterations", "-3"], "'--iterations'"),
        (["train", "-d", "x", "-f", "0", "--seed", "-1"], "'--seed'"),
        (["train", "-d", "x", "-f", "0", "--workers", "two"], "'--workers'"),
        (["predict", "-i", "x"], "Missing option '-o' / '--output'"),
    ],
)
def test_wrong_usage_ends_with_2(arguments: list[str], words: str, autounet: Callable[..., Any]) -> None:
    ended = autounet(*arguments)
    assert ended.code == 2
    shown = re.sub(r"\s+", " ", ended.text)
    assert words in shown, shown
    assert "Traceback" not in shown
