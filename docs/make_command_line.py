"""Writes docs/reference/command-line.md from the commands themselves: ``python docs/make_command_line.py``."""

from pathlib import Path
from typing import Any

import typer.main

from autounet.cli.main import app

PAGE = Path(__file__).parent / "reference" / "command-line.md"

HEAD = """# Command line

Every command and option. `autounet COMMAND --help` shows the same. This page is written by `python docs/make_command_line.py`.

Results go to standard output, all else to standard error. Exit codes: 0 done, 1 failed on the data or the machine (of `doctor`: something
severe was found), 2 wrong usage, 130 interrupted. Environment variables: `AUTOUNET_DATA` (folder of datasets), `AUTOUNET_RUNS` (folder
of run folders); `nnUNet_raw` is looked at for datasets where it is set. No variable is needed.
"""


def page() -> str:
    """The whole page."""
    commands: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    return HEAD + "".join(_section(name, command) for name, command in flat(commands).items())


def flat(commands: dict[str, Any], before: str = "") -> dict[str, Any]:
    """Commands by their whole names: of a group its own."""
    found: dict[str, Any] = {}
    for name, command in commands.items():
        inner = getattr(command, "commands", None)
        found |= {f"{before}{name}": command} if inner is None else flat(inner, f"{before}{name} ")
    return found


def _section(name: str, command: Any) -> str:
    rows = [f"| {_names(option)} | {_help(option)} | {_default(option)} |" for option in command.params if option.name != "help"]
    about = " ".join((command.help or "").split())
    return f"\n## autounet {name}\n\n{about}\n\n| option | meaning | default |\n|---|---|---|\n" + "\n".join(rows) + "\n"


def _names(option: Any) -> str:
    names = (*option.opts, *option.secondary_opts)
    return " ".join(f"`{name}`" if name.startswith("-") else f"`{name.upper()}`" for name in names)


def _help(option: Any) -> str:
    return str(option.help).replace("|", "\\|") + (" **Required.**" if option.required else "")


def _default(option: Any) -> str:
    value = option.default
    if value in (None, "") or option.required:
        return ""
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"`{value}`"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
