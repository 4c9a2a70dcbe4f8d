"""What the command line says about the plan: preset, memory, and choices in place of the rules."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

from autounet.errors import UsageError
from autounet.fingerprint import Fingerprint
from autounet.geometry import LARGEST_MM, SMALLEST_MM
from autounet.plan import NormalizationChoice, Overrides, PlanRequest
from autounet.preset import MOST_GB, Preset

DEFAULT_PRESET = "nnunet"

LARGEST = 10**9
"""Of any number of voxels, samples or feature maps."""

BY_RULE = "rule"
"""Typed after a flag, it takes an earlier choice back."""

SCHEMES: tuple[NormalizationChoice, ...] = get_args(NormalizationChoice)


@dataclass(frozen=True, slots=True)
class Choices:
    """The flags that decide something in place of the rules, as they were typed; None and empty leave it to them."""

    spacing: str | None = None
    patch_size: Sequence[str] = ()
    batch_size: Sequence[str] = ()
    normalization: Sequence[str] = ()
    mirror_axes: str | None = None
    features: str | None = None

    def check(self) -> None:
        """Raises UsageError, before any work, for what makes no sense whatever the data are."""
        if self.spacing not in (None, BY_RULE):
            _positive("--spacing", str(self.spacing), _numbers(str(self.spacing)))
        for text in self.patch_size:
            if _named(text)[1] != BY_RULE:
                _whole("--patch-size", text, _named(text)[1])
        for text in self.batch_size:
            if _named(text)[1] != BY_RULE:
                _one_whole("--batch-size", text, _named(text)[1])
        for text in self.normalization:
            _scheme(text)
        if self.mirror_axes not in (None, BY_RULE):
            _axes(str(self.mirror_axes))
        if self.features not in (None, BY_RULE):
            _whole("--features", str(self.features), str(self.features), "24 or 24,48,96")

    def overrides(self, fingerprint: Fingerprint, before: Overrides, planar: bool = False) -> Overrides:
        """These choices on top of earlier ones; a size without a name is of 2d where all is ``planar``, else of 3d_fullres.

        Raises:
            UsageError: One does not suit the data.
        """
        self.check()
        planar = planar or fingerprint.ndim == 2
        changed = before.model_dump()
        if self.spacing is not None:
            changed["spacing_mm_zyx"] = None if self.spacing == BY_RULE else _spacing(self.spacing, fingerprint)
        for text in self.patch_size:
            name, value = _named(text)
            sizes = () if value == BY_RULE else _whole("--patch-size", text, value)
            usual = "2d" if len(sizes) == 2 or planar else "3d_fullres"
            changed["patch_size"] = _with(changed["patch_size"], name or usual, sizes or None)
        for text in self.batch_size:
            name, value = _named(text)
            usual = "2d" if planar else "3d_fullres"
            size = None if value == BY_RULE else _one_whole("--batch-size", text, value)
            changed["batch_size"] = _with(changed["batch_size"], name or usual, size)
        if self.normalization:
            changed["normalization"] = _normalization(self.normalization, fingerprint.channels, before.normalization)
        if self.mirror_axes == BY_RULE:
            changed["mirror_axes_zyx"] = None
        elif self.mirror_axes is not None:
            axes = _axes(self.mirror_axes)
            first = 3 - fingerprint.ndim
            if self.mirror_axes != "all" and any(axis < first for axis in axes):
                raise UsageError(f"--mirror-axes {self.mirror_axes}: planar images have no axis z", expected="y, x, all or none")
            changed["mirror_axes_zyx"] = tuple(axis for axis in axes if axis >= first)
        if self.features is not None:
            changed["features"] = None if self.features == BY_RULE else _whole("--features", self.features, self.features)
        return Overrides(**changed)


NO_CHOICES = Choices()


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the command line says about the plan; None leaves it to the plan that is there."""

    preset: str | None = None
    """A name or a file."""
    gpu_memory_gb: float | None = None
    choices: Choices = NO_CHOICES
    reset: bool = False
    """Nothing that was chosen for the plan that is there still holds."""

    def check(self) -> None:
        """Raises UsageError before any work when the preset is unknown, the memory is no amount or a choice makes no sense."""
        self._preset(None)
        if self.gpu_memory_gb is not None and not 0 < self.gpu_memory_gb <= MOST_GB:
            raise UsageError(f"--gpu-memory {self.gpu_memory_gb:g}: no amount of memory", expected="gigabytes, such as 8 or 24")
        self.choices.check()

    def request(self, fingerprint: Fingerprint, there: PlanRequest | None) -> PlanRequest:
        """What is asked for, on top of what was asked for the plan that is there.

        Another preset drops what was chosen about sizes (memory, patch, batch, features); what was chosen about the data (spacing,
        normalisation, mirroring) stays.
        """
        from autounet.planners.presets import PRESETS

        before = None if self.reset else there
        preset = self._preset(before)
        memory, overrides = self.gpu_memory_gb, Overrides()
        if before is not None:
            same = before.preset == preset or before.preset.name == preset.name in PRESETS
            memory = before.gpu_memory_gb if memory is None and same else memory
            sizes: dict[str, Any] = {} if same else {"patch_size": {}, "batch_size": {}, "features": None}
            overrides = before.overrides.model_copy(update=sizes)
        return PlanRequest(
            preset=preset, gpu_memory_gb=memory, overrides=self.choices.overrides(fingerprint, overrides, preset.volumetric is None)
        )

    def _preset(self, before: PlanRequest | None) -> Preset:
        from autounet.planners.preset_file import find_preset

        if self.preset is not None or before is None:
            return find_preset(DEFAULT_PRESET if self.preset is None else self.preset)
        return before.preset


def _numbers(text: str) -> list[float]:
    """Numbers with commas or times signs between them; NaN for what is none."""
    found = []
    for part in re.split(r"[,x×]", text.strip()):
        try:
            found.append(float(part))
        except ValueError:
            found.append(math.nan)
    return found


def _positive(flag: str, text: str, values: Sequence[float]) -> None:
    if not all(SMALLEST_MM <= value <= LARGEST_MM for value in values):
        raise UsageError(f"{flag} {text}: not positive numbers of mm", expected="numbers with commas between them, such as 2.5,1,1")


def _whole(flag: str, text: str, value: str, example: str = "64,128,128") -> tuple[int, ...]:
    values = _numbers(value)
    if not all(1 <= number <= LARGEST and number == int(number) for number in values):
        raise UsageError(f"{flag} {text}: not whole numbers above 0", expected=f"such as {example}")
    return tuple(int(number) for number in values)


def _one_whole(flag: str, text: str, value: str) -> int:
    values = _whole(flag, text, value, "4 or 3d_fullres=4")
    if len(values) != 1:
        raise UsageError(f"{flag} {text}: {len(values)} numbers", expected="one, such as 4 or 3d_fullres=4")
    return values[0]


def _with(table: dict[str, Any], name: str, value: Any) -> dict[str, Any]:
    """The table with one entry replaced; None removes it."""
    return {key: entry for key, entry in {**table, name: value}.items() if entry is not None}


def _named(text: str) -> tuple[str, str]:
    """``name=value`` or a value alone."""
    name, equals, value = text.rpartition("=")
    return (name.strip(), value.strip()) if equals else ("", text.strip())


def _scheme(text: str) -> tuple[str, NormalizationChoice | None]:
    """Channel (a name, a number, or empty for all) and scheme; None for the rule's."""
    channel, value = _named(text)
    if value == BY_RULE:
        return channel, None
    for scheme in SCHEMES:
        if scheme == value.casefold():
            return channel, scheme
    raise UsageError(f"--normalization {text}: no such scheme", expected=f"one of {', '.join(SCHEMES)}, or CHANNEL=SCHEME")


def _axes(text: str) -> tuple[int, ...]:
    """``z,y``, ``all`` or ``none`` → array axes."""
    words = text.strip().casefold()
    letters = {"all": "zyx", "none": ""}.get(words, re.sub(r"[,\s]", "", words))
    if any(letter not in "zyx" for letter in letters) or len(set(letters)) < len(letters) or (not letters and words != "none"):
        raise UsageError(f"--mirror-axes {text}: not axes", expected="some of z, y, x with commas between them, all or none")
    return tuple(sorted("zyx".index(letter) for letter in letters))


def _spacing(text: str, fingerprint: Fingerprint) -> tuple[float, float, float]:
    """Three numbers z, y, x in mm; for planar images two."""
    values = _numbers(text)
    if len(values) != fingerprint.ndim:
        axes = "y,x" if fingerprint.ndim == 2 else "z,y,x"
        raise UsageError(f"--spacing {text}: {len(values)} numbers", expected=f"{fingerprint.ndim}, in mm: {axes} as the images are read")
    if fingerprint.ndim == 2:
        values = [sorted(case.spacing_mm_zyx[0] for case in fingerprint.cases)[len(fingerprint.cases) // 2], *values]
    a, b, c = values
    return a, b, c


def _normalization(
    texts: Sequence[str], channels: Sequence[str], before: Sequence[NormalizationChoice | None]
) -> tuple[NormalizationChoice | None, ...]:
    chosen = list(before) or [None] * len(channels)
    for text in texts:
        channel, scheme = _scheme(text)
        places = [position for position, name in enumerate(channels) if channel in ("", str(position), name)]
        if not places:
            raise UsageError(
                f"--normalization {text}: no such channel",
                expected=", ".join(f"{position} ({name})" for position, name in enumerate(channels)),
            )
        for position in places:
            chosen[position] = scheme
    return tuple(chosen) if any(chosen) else ()
