"""Names of classes that tell left from right: ``Left-Hippocampus``, ``kidney_left``, ``ctx-lh-insula``, ``LK``."""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Naming = Literal["words", "initials"]

_WORDS = (
    ("left", "right"),
    ("sinister", "dexter"),
    ("sinistra", "dextra"),
    ("sinistrum", "dextrum"),
    ("links", "rechts"),
    ("linke", "rechte"),
    ("linker", "rechter"),
    ("linkes", "rechtes"),
    ("gauche", "droite"),
    ("gauche", "droit"),
    ("izquierdo", "derecho"),
    ("izquierda", "derecha"),
    ("sinistro", "destro"),
    ("sinistra", "destra"),
)
_SHORT = (("lh", "rh"), ("lt", "rt"))
_LETTERS = (("l", "r"),)

SIDE_BY_WORD: tuple[dict[str, str], ...] = tuple(
    {**{left: "left" for left, _ in table}, **{right: "right" for _, right in table}} for table in (_WORDS, _SHORT, _LETTERS)
)
"""Words that name a side. The first table that knows a word of the name decides: ``Left-L5`` is left by its first word."""


@dataclass(frozen=True, slots=True)
class NamedPair:
    """Two classes whose names differ in the side alone; positions in the dataset's order."""

    left: int
    right: int
    naming: Naming
    """``words``: the side is a word of its own; ``initials``: it is the first letter of one, which may mean nothing (liver, river)."""

    @property
    def positions(self) -> tuple[int, int]:
        """Both classes, in the dataset's order."""
        return min(self.left, self.right), max(self.left, self.right)


def named_pairs(names: Sequence[str]) -> tuple[NamedPair, ...]:
    """Finds the pairs, each class in one at most; the order is that of the dataset.

    Args:
        names: Names of the foreground classes, in order.
    """
    pairs = _pairs({position: _by_word(name) for position, name in enumerate(names)}, "words")
    paired = {position for pair in pairs for position in pair.positions}
    rest = {position: name for position, name in enumerate(names) if position not in paired}
    pairs += _pairs({position: _by_initial(name) for position, name in rest.items()}, "initials")
    return tuple(sorted(pairs, key=lambda pair: pair.positions))


def _pairs(sides: dict[int, tuple[str, tuple[str, ...]] | None], naming: Naming) -> list[NamedPair]:
    groups: dict[tuple[str, ...], dict[str, list[int]]] = defaultdict(lambda: {"left": [], "right": []})
    for position, found in sides.items():
        if found is not None:
            side, rest = found
            groups[rest][side].append(position)
    return [
        NamedPair(left=group["left"][0], right=group["right"][0], naming=naming)
        for group in groups.values()
        if len(group["left"]) == len(group["right"]) == 1
    ]


def _by_word(name: str) -> tuple[str, tuple[str, ...]] | None:
    """The side and the other words, with a mark where the side was; None for a name without one, or with several."""
    words = [word.casefold() for word in _words(name)]
    for side_of in SIDE_BY_WORD:
        places = [place for place, word in enumerate(words) if word in side_of]
        if places:
            if len(places) > 1:
                return None
            (place,) = places
            return side_of[words[place]], (*words[:place], "*", *words[place + 1 :])
    return None


def _by_initial(name: str) -> tuple[str, tuple[str, ...]] | None:
    """The side that the only word beginning with l or r may stand for, as ``LV``, ``rkidney``."""
    words = [word.casefold() for word in _words(name)]
    places = [place for place, word in enumerate(words) if len(word) > 1 and word[0] in "lr"]
    if len(places) != 1:
        return None
    (place,) = places
    word = words[place]
    return {"l": "left", "r": "right"}[word[0]], (*words[:place], f"*{word[1:]}", *words[place + 1 :])


def _words(name: str) -> list[str]:
    """``LeftKidney (upper)`` → Left, Kidney, upper; ``L5`` → L, 5."""
    parts = re.findall(r"[^\W\d_]+|\d+", name)
    return [word for part in parts for word in re.findall(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[^A-Z]+|[A-Z]+", part)]
