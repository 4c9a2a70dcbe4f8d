"""Changes that get behind a format's front door: values of JSON, fields of headers, members of zips. All from a seed alone."""

import io
import json
import struct
import warnings
import zipfile
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

Mutate = Callable[[bytes, Random], bytes]

NUMBERS = (
    *(0, 1, -1, 2, 3, 7, 255, 256, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32, 2**53, 2**63 - 1, 2**63, 2**64, 10**12, 10**30),
    *(-(2**31), -(2**63), 0.0, 0.5, -0.5, 1e-9, 1e9, 1e30, 1e300, 1e-300, -1e300),
)
TEXTS = (
    *("", " ", ".", "..", "../../x", "/etc/passwd", "/dev/zero", "a/b", "a\\b", "C:\\x", "\0", "\x1b[2J", "\ud800", "‮x", "é" * 300),
    *("x" * 5000, "nan", "0", "-1", "1" * 5000, "<script>alert(1)</script>", "{{7*7}}", "%n%s", "../outside/canary.nii.gz", "CON"),
)
BYTES = (b"\0", b"\xff", b"\n", b"..", b"/", b"%", b"1", b"-1", b"99999999999", b"4294967296", b"nan", b"inf", b"\xff\xff\xff\x7f")

RAW_JSON = ("NaN", "Infinity", "-Infinity", "1e999", "1" * 5000, "[" * 3000 + "]" * 3000, '"\\ud800"', '{"a":1,"a":2}', "-0", "1E400")
"""JSON that Python reads, or almost reads, and that is no value one would expect."""
MARK = "-mark-"
"""Stands for it while the rest is made into text."""


def of_bytes(data: bytes, random: Random) -> bytes:
    """A few bytes are flipped, put in, cut out or copied."""
    content = bytearray(data or b"\0")
    for _ in range(random.choice((1, 1, 2, 4, 16))):
        at = random.randrange(len(content) + 1)
        match random.randrange(6):
            case 0 if at < len(content):
                content[at] ^= 1 << random.randrange(8)
            case 1 if at < len(content):
                content[at] = random.randrange(256)
            case 2:
                content[at:at] = random.choice(BYTES)
            case 3:
                del content[at : at + random.choice((1, 2, 4, 8, 64, 1024))]
            case 4:
                start = random.randrange(len(content) + 1)
                content[at:at] = content[start : start + random.choice((1, 4, 16, 256))]
            case _:
                width, number = random.choice((2, 4, 8)), random.choice(NUMBERS)
                content[at : at + width] = (int(number) % 2 ** (8 * width)).to_bytes(width, random.choice(("little", "big")))
    return bytes(content)


def of_json(data: bytes, random: Random) -> bytes:
    """Some values of a JSON document become others of the same or another kind; now and then its text is changed instead."""
    if random.random() < 0.1:
        return of_bytes(data, random)
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return of_bytes(data, random)
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        value = changed_value(value, random)
    raw = random.random() < 0.2
    if raw and (places := _places(value)):
        parent, key = random.choice(places)
        parent[key] = MARK
    try:
        text = json.dumps(value).replace(f'"{MARK}"', random.choice(RAW_JSON))
    except (ValueError, RecursionError):
        return data
    return text.encode("utf-8", "surrogatepass")


def changed_value(value: Any, random: Random) -> Any:
    """The value with one place in it changed: leaves oftener than branches."""
    places = list(_places(value))
    if not places or random.random() < 0.02:
        return _other(value, random)
    parent, key = random.choice(places)
    match random.randrange(8):
        case 0:
            del parent[key]
        case 1 if isinstance(parent, dict):
            parent[random.choice(TEXTS) if random.random() < 0.7 else f"{key}x"] = parent.pop(key)
        case 2 if isinstance(parent, list):
            parent.extend([parent[key]] * random.choice((1, 2, 50)))
        case 3:
            donor, other = random.choice(places)
            parent[key] = json.loads(json.dumps(donor[other]))
        case _:
            parent[key] = _other(parent[key], random)
    return value


def _places(value: Any) -> list[tuple[Any, Any]]:
    found: list[tuple[Any, Any]] = []
    todo = [value]
    while todo and len(found) < 5000:
        one = todo.pop()
        items = list(one.items()) if isinstance(one, dict) else list(enumerate(one)) if isinstance(one, list) else []
        found += [(one, key) for key, _ in items]
        todo += [item for _, item in items if isinstance(item, (dict, list))]
    return found


def _other(value: Any, random: Random) -> Any:
    if random.random() < 0.15:
        return random.choice((None, True, False, [], {}, [[]], {"": {}}, [None], 0, "", [0] * 1000))
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return random.choice((random.choice(NUMBERS), value + 1, -value, value * 1000))
    if isinstance(value, str):
        return random.choice((random.choice(TEXTS), value + random.choice(TEXTS), value[: len(value) // 2], random.choice(NUMBERS)))
    if isinstance(value, list):
        return random.choice(([], value * 2, value[:-1], value[::-1], [value], random.choice(NUMBERS)))
    return random.choice(({}, [value], list(value) if isinstance(value, dict) else value, random.choice(NUMBERS)))


def of_fields(fields: Sequence[tuple[int, str]], order: Sequence[str] = "<") -> Mutate:
    """Changes fields of a binary header, given as (offset, struct format of one value)."""

    def mutate(data: bytes, random: Random) -> bytes:
        content = bytearray(data)
        for _ in range(random.choice((1, 1, 2, 3))):
            offset, kind = random.choice(fields)
            width = struct.calcsize("<" + kind)
            if offset + width > len(content):
                continue
            if kind in "fd":
                number = random.choice((0.0, -0.0, 1.0, -1.0, 1e-30, 1e30, float("nan"), float("inf"), float("-inf"), 0.5, 348.0, 2**40))
                content[offset : offset + width] = struct.pack(random.choice(order) + kind, number)
            else:
                content[offset : offset + width] = (int(random.choice(NUMBERS)) % 2 ** (8 * width)).to_bytes(width, "little")
        return bytes(content) if random.random() < 0.9 else of_bytes(bytes(content), random)

    return mutate


def of_lines(words: Sequence[bytes], separator: bytes = b"\n", end: bytes = b"") -> Mutate:
    """Changes values of a text header of ``key: value`` lines, up to ``end``; ``words`` are values that mean something in the format."""

    def mutate(data: bytes, random: Random) -> bytes:
        head, cut, rest = data.partition(end) if end else (data, b"", b"")
        lines = head.split(separator)
        for _ in range(random.choice((1, 1, 2, 3))):
            at = random.randrange(len(lines))
            mark = b"=" if b"=" in lines[at] else b":"
            key, there, value = lines[at].partition(mark)
            match random.randrange(6):
                case 0:
                    lines[at : at + 1] = []
                    lines = lines or [b""]
                case 1:
                    lines.insert(random.randrange(len(lines) + 1), lines[at])
                case 2:
                    lines.insert(at, random.choice(words))
                case 3:
                    lines[at] = key + there + b" " + str(random.choice(NUMBERS)).encode()
                case 4:
                    parts = value.split() or [b""]
                    parts[random.randrange(len(parts))] = random.choice((str(random.choice(NUMBERS)).encode(), *BYTES))
                    lines[at] = key + there + b" " + b" ".join(parts)
                case _:
                    lines[at] = key + there + b" " + random.choice(words).rpartition(mark)[2].strip()
        return separator.join(lines) + cut + (rest if random.random() < 0.9 else of_bytes(rest, random))

    return mutate


def of_zip(members: Callable[[str], Mutate], seal: Callable[[dict[str, bytes]], dict[str, bytes]] = lambda members: members) -> Mutate:
    """Changes a member of a zip and packs it anew, so that check sums are right; or names, flags and sizes in its directory.

    Args:
        members: What changes a member, by its name.
        seal: Makes the members consistent again, as whoever means harm would.
    """

    def mutate(data: bytes, random: Random) -> bytes:
        if random.random() < 0.2:
            return of_bytes(data, random)
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                content = {name: archive.read(name) for name in archive.namelist()[:50]}
        except Exception:
            return of_bytes(data, random)
        if not content:
            return of_bytes(data, random)
        name = random.choice(list(content))
        if random.random() < 0.8:
            content[name] = members(name)(content[name], random)
        else:
            content[random.choice((*TEXTS, *content)).replace("\ud800", "?") or "x"] = content.pop(name)
        if random.random() < 0.8:
            content = seal(content)
        return packed(content, random)

    return mutate


def packed(content: dict[str, bytes], random: Random) -> bytes:
    """The members as a zip, seldom an odd one."""
    target = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(target, "w") as archive:
        warnings.simplefilter("ignore")
        for name, member in content.items():
            entry = zipfile.ZipInfo(name[:1000] or "x")
            entry.compress_type = zipfile.ZIP_DEFLATED if random.random() < 0.03 else zipfile.ZIP_STORED
            kind = random.choice((0o100644, 0o120777, 0o010644, 0o060644)) if random.random() < 0.03 else 0o100644
            entry.external_attr = kind << 16
            archive.writestr(entry, member)
            if random.random() < 0.02:
                archive.writestr(entry, member)
    result = bytearray(target.getvalue())
    if random.random() < 0.05:  # lies in the directory alone
        at = result.rfind(b"PK\x01\x02")
        if at >= 0:
            field = random.choice((8, 10, 16, 20, 24, 28, 30, 32, 38, 42))
            result[at + field : at + field + 4] = (int(random.choice(NUMBERS)) % 2**32).to_bytes(4, "little")
    return bytes(result)


def either(*ways: Mutate) -> Mutate:
    """One of several ways, each as often."""
    return lambda data, random: random.choice(ways)(data, random)
