"""Coded meanings of structures, from their names: SNOMED CT where DICOM's own list of segmented properties has the name."""

import hashlib
import re
from dataclasses import dataclass
from typing import Any

PRIVATE = "99AUTOUNET"
"""Coding scheme of structures that are not in the list."""

SIDES = {"left": ("7771000", "SCT", "Left"), "right": ("24028007", "SCT", "Right")}

SAME = {
    **{"tumour": "neoplasm", "tumor": "neoplasm", "cancer": "neoplasm", "oedema": "edema", "haemorrhage": "hemorrhage"},
    **{"metastasis": "neoplasm secondary", "oesophagus": "esophagus", "urinary bladder": "bladder", "adrenal": "adrenal gland"},
    **{"brainstem": "brain stem", "ventricles": "brain ventricle", "fat": "adipose tissue", "muscle": "muscle tissue"},
    **{"enhancing tumour": "enhancing lesion", "enhancing tumor": "enhancing lesion", "vertebrae": "vertebra", "ribs": "rib"},
    **{"whole tumour": "neoplasm", "whole tumor": "neoplasm", "lesions": "lesion", "kidneys": "kidney", "lungs": "lung"},
}
"""Words of datasets → of the list."""

BY_HAND = {
    "myocardium": ("74281007", "SCT", "Myocardium"),
    "left ventricle": ("87878005", "SCT", "Left ventricle"),
    "right ventricle": ("53085002", "SCT", "Right ventricle"),
    "left atrium": ("82471001", "SCT", "Left atrium"),
    "right atrium": ("73829009", "SCT", "Right atrium"),
}
"""The heart's parts, whose side is in the concept itself. Source: SNOMED CT, as DICOM PS3.16 has them (myocardium: not in pydicom's)."""

Triple = tuple[str, str, str]
"""Value, scheme, meaning."""


@dataclass(frozen=True, slots=True)
class Coded:
    """What a structure is, in DICOM's terms."""

    category: Triple
    kind: Triple
    side: Triple | None = None


def coded(name: str) -> Coded:
    """The codes of a class name; a private one with the name as its meaning where the list has none.

    Source of the list: DICOM PS3.16, CID 7151 (types), 7159 (lesions), 7166 (tissues), as pydicom holds them.
    """
    from pydicom.sr.codedict import codes

    words = re.sub(r"(?<=[a-z])(?=[A-Z])|[_\W]+", " ", name).strip().lower()
    if words in BY_HAND:
        return Coded(_category("AnatomicalStructure"), BY_HAND[words])
    plain = [SAME.get(words, words)]
    side = next((entry for word, entry in SIDES.items() if re.search(rf"\b{word}\b", words)), None)
    if side is not None:
        without = re.sub(r"\b(left|right)\b", " ", words)
        plain.append(SAME.get(" ".join(without.split()), " ".join(without.split())))
    for number, text in enumerate(plain):
        code = _listed(codes.CID7151, text)
        if code is not None:
            within = {"MorphologicallyAbnormalStructure": codes.CID7159, "Tissue": codes.CID7166}
            category = next((key for key, group in within.items() if code in group), "AnatomicalStructure")
            return Coded(_category(category), (code.value, code.scheme_designator, code.meaning), side if number else None)
    value = hashlib.sha256(name.encode()).hexdigest()[:12].upper()
    return Coded(_category("Tissue"), (value, PRIVATE, short(name, 64)))


def short(text: str, characters: int) -> str:
    """Text that DICOM's short types can hold: no backslash, no control characters, not too long, never empty."""
    clean = "".join(" " if character == "\\" or not character.isprintable() else character for character in text).strip()
    return clean[:characters].strip() or "unnamed"


def _listed(group: Any, words: str) -> Any:
    names = {entry.lower(): entry for entry in group.dir()}
    for attempt in (words, words.removesuffix("s")):
        found = names.get(re.sub(r"\W", "", attempt))
        if found is not None:
            return getattr(group, found)
    return None


def _category(name: str) -> Triple:
    from pydicom.sr.codedict import codes

    code = getattr(codes.CID7150, name)
    return code.value, code.scheme_designator, code.meaning
