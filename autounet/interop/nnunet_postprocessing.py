"""nnU-Net's postprocessing.pkl without running anything in it.

It pickles a pair: functions, and for each its arguments. The one function that nnU-Net ever puts there becomes a KeepLargest; numpy's
numbers become Python's. No other name is resolved, so that nothing of the file is ever executed.
"""

import io
import pickle
import pickletools
from pathlib import Path
from typing import Any

from autounet.errors import ArtefactError
from autounet.postprocessing import MOST_STEPS, KeepLargest

MOST_BYTES = 2**20

KEEP_LARGEST = "remove_all_but_largest_component_from_segmentation"
_NAMES = {
    f"nnunetv2.postprocessing.remove_connected_components.{KEEP_LARGEST}": "keep largest",
    "numpy.dtype": "dtype",
    "numpy._core.multiarray.scalar": "number",
    "numpy.core.multiarray.scalar": "number",
    "_codecs.encode": "bytes",
}


class _Refused(Exception):
    """What the file holds and must not."""


class _Name:
    """Stands for a function or type that the file names. Calling it keeps the arguments, and nothing else happens."""

    def __init__(self, meaning: str) -> None:
        self.meaning = meaning

    def __call__(self, *arguments: Any) -> "_Call":
        return _Call(self.meaning, arguments)


class _Call:
    """A call that was not made."""

    def __init__(self, meaning: str, arguments: tuple[Any, ...]) -> None:
        self.meaning, self.arguments = meaning, arguments

    def __setstate__(self, state: object) -> None:
        """A dtype's byte order and the like, which its name tells already."""


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> _Name:
        if f"{module}.{name}" not in _NAMES:
            raise _Refused(f"the name {module}.{name}")
        return _Name(_NAMES[f"{module}.{name}"])


def read_nnunet_postprocessing(path: Path) -> tuple[KeepLargest, ...]:
    """The steps in nnU-Net's postprocessing.pkl, in their order.

    Raises:
        ArtefactError: The file cannot be read, or holds anything but those steps; the message names it.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise _Refused(f"more than {MOST_BYTES} bytes")
        return _steps(_unpickled(data))
    except _Refused as error:
        raise ArtefactError(f"{path}: cannot be expressed as postprocessing steps", found=error) from None
    except OSError as error:
        raise ArtefactError(f"{path}: cannot be read", found=error.strerror or error) from None


def _unpickled(data: bytes) -> Any:
    try:
        for opcode, argument, _ in pickletools.genops(data):
            # These make pickle allocate whatever number the file says.
            if opcode.name == "BYTEARRAY8" or (opcode.name in {"PUT", "LONG_BINPUT"} and int(argument or 0) > len(data)):
                raise _Refused(f"the pickle instruction {opcode.name}")
        return _Unpickler(io.BytesIO(data)).load()
    except _Refused:
        raise
    except Exception as error:  # a damaged pickle raises any kind
        raise _Refused(f"a damaged pickle ({error})") from None


def _steps(content: Any) -> tuple[KeepLargest, ...]:
    if not isinstance(content, (tuple, list)) or len(content) != 2:
        raise _Refused("something else than functions and their arguments")
    functions, arguments = content
    if not isinstance(functions, list) or not isinstance(arguments, list) or len(functions) != len(arguments):
        raise _Refused("something else than functions and their arguments")
    if len(functions) > MOST_STEPS:
        raise _Refused(f"{len(functions)} steps")
    return tuple(_step(function, given) for function, given in zip(functions, arguments, strict=True))


def _step(function: Any, given: Any) -> KeepLargest:
    if not isinstance(function, _Name) or function.meaning != "keep largest":
        raise _Refused("a function that is none")
    if not isinstance(given, dict) or not {"labels_or_regions"} <= set(given) <= {"labels_or_regions", "background_label"}:
        raise _Refused(f"arguments of {KEEP_LARGEST} that are not known")
    if "background_label" in given and _number(given["background_label"]) != 0:
        raise _Refused("a background label other than 0")
    values: list[int] = []
    wanted = given["labels_or_regions"]
    for entry in wanted if isinstance(wanted, list) else [wanted]:
        values += [_number(value) for value in (entry if isinstance(entry, tuple) else (entry,))]
    if not values or min(values) < 1:
        raise _Refused(f"the labels {values}")
    return KeepLargest(values=tuple(sorted(set(values))))


def _number(value: Any) -> int:
    """A whole number, pickled as Python's or as numpy's."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match value:
        case _Call(meaning="number", arguments=(_Call(meaning="dtype", arguments=(str(name), *_)), held)):
            if isinstance(held, _Call) and held.meaning == "bytes" and held.arguments[1:] == ("latin1",):
                held = str(held.arguments[0]).encode("latin1", "replace")  # how older pickles write bytes
            if (
                name in {f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)}
                and isinstance(held, bytes)
                and len(held) == int(name[1])
            ):
                return int.from_bytes(held, "little", signed=name[0] == "i")
    raise _Refused("a label that is no whole number")
