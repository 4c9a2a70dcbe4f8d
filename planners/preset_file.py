"""A user's own preset: a small JSON file that names a built-in one and what is to differ."""

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from autounet.errors import UsageError
from autounet.planners.presets import PRESETS
from autounet.preset import Preset
from autounet.text_files import read_text

BASE = "nnunet"
"""Whose numbers hold where the file names no ``base``."""

PARTS = ("planar", "volumetric", "optimizer", "unpadded")
"""Fields that hold several numbers, of which a file may change some."""


def find_preset(wanted: str) -> Preset:
    """The built-in preset of that name, or the one in that JSON file.

    Raises:
        UsageError: There is neither, or the file is no preset.
    """
    if wanted in PRESETS:
        return PRESETS[wanted]
    path = Path(wanted)
    if wanted and (path.suffix == ".json" or path.is_file()):
        return read_preset(path)
    raise UsageError(f"--preset {wanted}: no such preset", expected=f"one of {', '.join(PRESETS)}, or a .json file")


def read_preset(path: Path) -> Preset:
    """Reads a preset file: ``{"base": "nnunet", "epochs": 200, "volumetric": {"max_features": 384}}``.

    ``base`` names the built-in preset whose numbers hold where the file is silent; the preset's name is the file's unless it says
    another. Every other key is a field of ``autounet.preset.Preset``.

    Raises:
        UsageError: The file cannot be read, is not JSON, names an unknown base or field, or a number makes no sense.
    """
    try:
        raw: Any = json.loads(read_text(path, "utf-8-sig"))
    except OSError as error:
        raise UsageError(f"--preset {path}: cannot be read", found=error.strerror or error, remedy="check the path") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"--preset {path}: is not valid JSON", found=error, remedy="correct it at that place") from None
    if not isinstance(raw, dict):
        raise UsageError(f"--preset {path}: not a preset", found=f"a JSON {type(raw).__name__}", expected="a JSON object")
    base = raw.pop("base", BASE)
    if not isinstance(base, str) or base not in PRESETS:
        raise UsageError(f"--preset {path}: no such 'base'", found=repr(base), expected=f"one of {', '.join(PRESETS)}")
    preset = _merged(path, base, raw)
    if preset.name in PRESETS:
        raise UsageError(f"--preset {path}: has the name of a built-in preset", found=preset.name, remedy="give it another")
    return preset


def _merged(path: Path, base: str, changes: dict[str, Any]) -> Preset:
    numbers = PRESETS[base].model_dump(mode="json")
    numbers |= {"name": path.stem, "summary": f"{base}, with changes: {', '.join(sorted(changes)) or 'none'}"}
    for key, value in changes.items():
        of_base = numbers.get(key)
        numbers[key] = {**of_base, **value} if key in PARTS and isinstance(of_base, dict) and isinstance(value, dict) else value
    try:
        return Preset.model_validate_json(json.dumps(numbers))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise UsageError(f"--preset {path}: no field '{where}'", expected=f"base or {', '.join(Preset.model_fields)}") from None
        message = first["msg"].removeprefix("Value error, ")
        raise UsageError(f"--preset {path}: malformed{f' at {where!r}' if where else ''}", found=message, remedy="correct it") from None
