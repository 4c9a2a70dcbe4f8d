"""Files that patterns with wildcards find, matched into cases by what the wildcards stand for."""

import glob
import os
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from autounet.dataset_json import patient_name
from autounet.dataset_search import absolute
from autounet.dataset_table import TableCase, repetitions, safe_name
from autounet.errors import DatasetError, Problem, UsageError
from autounet.image_names import holds_dicom, image_format, split_ending

Key = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Patterns:
    """What the command line says about where files are."""

    images: tuple[str, ...]
    """One per channel."""
    labels: str
    id: str | None = None
    """Template of names, in which ``{1}`` is what the first wildcard of the first pattern of images stands for."""
    patient: str | None = None
    """The same for patients."""


def match_cases(patterns: Patterns) -> list[TableCase]:
    """The cases whose images and label map the patterns find, sorted by name.

    A wildcard (``*``, ``?``, ``[…]``, ``**``) that always stands for the same as an earlier one of its pattern counts once, so that
    ``sub-*/sub-*_T1.nii.gz`` goes with ``labels/sub-*.nii.gz``. Where patterns differ in their number, those that stand for the same in
    all cases are left out.

    Raises:
        UsageError: A pattern finds nothing, or patterns cannot be matched, or a template names no wildcard.
        DatasetError: Images without a label map, label maps without an image, two of one case; ``problems`` has all.
    """
    texts = [*patterns.images, patterns.labels]
    flags = [f"--images {text}" for text in patterns.images] + [f"--labels {patterns.labels}"]
    found = [find_files(text, flag) for text, flag in zip(texts, flags, strict=True)]
    columns = [_own_columns(each) for each in found]
    if len({len(kept) for kept in columns}) > 1:
        columns = [_varying(each, kept) for each, kept in zip(found, columns, strict=True)]
    if len({len(kept) for kept in columns}) > 1:
        shown = "; ".join(f"{flag}: {', '.join(next(iter(each.values())))}" for flag, each in zip(flags, found, strict=True))
        remedy = "use as many wildcards in each, that stand for the same parts of a case's name"
        raise UsageError("the patterns have different numbers of wildcards that tell cases apart", found=shown, remedy=remedy)
    problems: list[Problem] = []
    by_key = [_by_key(each, kept, flag, problems) for each, kept, flag in zip(found, columns, flags, strict=True)]
    everything = sorted(set[Key]().union(*by_key))
    for key in everything:
        there = [flag for flag, files in zip(flags, by_key, strict=True) if key in files]
        for flag, files in zip(flags, by_key, strict=True):
            if key not in files:
                example = next(files_[key] for files_ in by_key if key in files_)
                remedy = "add it, or make the patterns narrower" if there else ""
                problems.append(Problem(" ".join(key) or "the case", f"{flag}: no file that goes with {example}", remedy))
    complete = [key for key in everything if all(key in files for files in by_key)]
    cases = _named(complete, by_key, found[0], patterns)
    problems += repetitions(cases)
    if problems:
        raise DatasetError(f"{len(problems)} problems with files that the patterns find", problems=problems)
    return sorted(cases, key=lambda case: case.id)


def find_files(pattern: str, flag: str) -> dict[Path, Key]:
    """What a pattern finds → what each of its wildcards stands for there; hidden files are passed over. Raises UsageError."""
    text = os.path.expanduser(pattern).replace(os.sep, "/").rstrip("/")
    # macOS may take umlauts apart, and Windows takes capitals for small letters.
    flags = re.DOTALL | (re.IGNORECASE if os.path.normcase("A") == "a" else 0)
    try:
        expression = re.compile(_expression(unicodedata.normalize("NFC", text)), flags)
    except re.error as error:
        raise UsageError(f"{flag}: is no pattern", found=error, expected="* for any characters, [ab] for one of these") from None
    found = {}
    for name in sorted(glob.glob(text, recursive=True)):
        match = expression.fullmatch(unicodedata.normalize("NFC", name.replace(os.sep, "/")))
        path = Path(name)
        if match is not None and (holds_dicom(path) if path.is_dir() and not split_ending(path)[1] else image_format(path)):
            found[absolute(path)] = tuple(part.strip("/") for part in match.groups())
    if not found:
        raise UsageError(f"{flag}: finds no image", remedy="check the pattern, and put it in quotes, else the shell replaces it")
    return found


def channel_name(pattern: str, position: int) -> str:
    """What the file name of a pattern says beside its wildcards: ``ct/*/T1.nii.gz`` → ``T1``; ``channel_0`` where it says nothing."""
    stem = split_ending(Path(pattern.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]))[0]
    parts = [part.strip("_-. ") for part in re.split(r"\*+|\?+|\[[^\]]*\]", stem)]
    return (
        re.sub(r"_0\d{3}$", "", max(parts, key=len))
        if any(parts) and not re.fullmatch(r"0\d{3}", max(parts, key=len))
        else f"channel_{position}"
    )


def _expression(text: str) -> str:
    """A pattern of ``glob`` as a regular expression with a group for each wildcard."""
    end = re.fullmatch(r"(.*[*?\]][^/]*\.[A-Za-z]*)\*", text)
    if end is not None and "*" in end[1].rsplit("/", 1)[-1]:  # *.nii* or *.*: the ending is no part of a name
        return f"{_expression(end[1])}[^/]*"
    parts = []
    for part in re.split(r"(\*\*/|\*+|\?+|\[!?\]?[^\]/]*\])", text):
        if part == "**/":
            parts.append("((?:[^/]+/)*)")
        elif part.startswith("*"):
            parts.append("([^/]*)")
        elif part.startswith("?"):
            parts.append(f"([^/]{{{len(part)}}})")
        elif part.startswith("[") and part.endswith("]") and len(part) > 2:
            inside = part[1:-1].replace("\\", "\\\\")
            parts.append(f"([{'^' + inside[1:] if inside.startswith('!') else inside}])")
        else:
            parts.append(re.escape(part))
    return "".join(parts)


def _own_columns(found: Mapping[Path, Key]) -> list[int]:
    """Wildcards that do not repeat an earlier one."""
    keys = list(found.values())
    return [n for n in range(len(keys[0])) if not any(all(key[n] == key[m] for key in keys) for m in range(n))] if keys[0] else []


def _varying(found: Mapping[Path, Key], kept: Sequence[int]) -> list[int]:
    return [n for n in kept if len({key[n] for key in found.values()}) > 1]


def _by_key(found: Mapping[Path, Key], kept: Sequence[int], flag: str, problems: list[Problem]) -> dict[Key, Path]:
    by_key: dict[Key, Path] = {}
    for path, parts in found.items():
        key = tuple(parts[n] for n in kept)
        if key in by_key:
            problems.append(Problem(" ".join(key), f"{flag}: finds both {by_key[key]} and {path}", "make the pattern narrower"))
        by_key.setdefault(key, path)
    return by_key


def _named(keys: Sequence[Key], by_key: Sequence[Mapping[Key, Path]], first: Mapping[Path, Key], patterns: Patterns) -> list[TableCase]:
    varying = [n for n in range(len(keys[0])) if len({key[n] for key in keys}) > 1] if keys else []
    cases = []
    for key in keys:
        images = tuple(files[key] for files in by_key[:-1])
        parts = first[images[0]]
        usual = "_".join(key[n] for n in varying or range(len(key)))
        name = usual if patterns.id is None else _filled(patterns.id, parts, "--id")
        name = name or split_ending(images[0])[0]
        patient = None if patterns.patient is None else patient_name(_filled(patterns.patient, parts, "--patient")) or None
        cases.append(TableCase(str(images[0]), safe_name(name), images, by_key[-1][key], patient))
    return cases


def _filled(template: str, parts: Key, flag: str) -> str:
    def part(match: re.Match[str]) -> str:
        number = int(match[1])
        if not 1 <= number <= len(parts):
            there = f"the first pattern of --images has {len(parts)} wildcard{'s' if len(parts) != 1 else ''}"
            raise UsageError(f"{flag} {template}: no wildcard {number}", found=there, expected="{1} for the first, and so on")
        return parts[number - 1]

    if re.search(r"\{\d+\}", template) is None:
        raise UsageError(f"{flag} {template}: names no wildcard", expected="{1} for what the first * stands for")
    return re.sub(r"\{(\d+)\}", part, template)
