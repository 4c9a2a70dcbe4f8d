"""NVIDIA's cards as the system knows them, without torch."""

import re
from collections.abc import Mapping
from pathlib import Path

from autounet.machine.facts import Cards
from autounet.machine.patience import output_of

NVIDIA_VENDOR = "0x10de"
DISPLAY_CLASS = "0x03"
"""PCI numbers of cards that show or compute."""


def look_at_cards(environment: Mapping[str, str], proc: Path = Path("/proc"), pci: Path = Path("/sys/bus/pci/devices")) -> Cards:
    """NVIDIA's cards by nvidia-smi; without it by what the driver or the bus shows (Linux)."""
    told = output_of("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader")
    rows = [[word.strip() for word in line.rsplit(",", 1)] for line in told.splitlines() if line.count(",")]
    driver = rows[0][1] if rows else _driver(proc / "driver" / "nvidia" / "version")
    names = tuple(row[0] for row in rows) or _by_driver(proc / "driver" / "nvidia" / "gpus") or _on_bus(pci)
    return Cards(names=names, driver=driver, visible=environment.get("CUDA_VISIBLE_DEVICES"))


def _driver(path: Path) -> str | None:
    """``NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.129.03  Thu Oct …`` → 535.129.03."""
    try:
        found = re.search(r"^NVRM version:.*?\s(\d+\.\d+(?:\.\d+)?)\s", path.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
    except OSError:
        return None
    return found.group(1) if found else None


def _by_driver(folder: Path) -> tuple[str, ...]:
    """Names that the kernel's driver knows."""
    names = []
    for path in sorted(folder.glob("*/information")):
        found = re.search(r"^Model:\s*(.+)$", path.read_text(encoding="utf-8", errors="replace"), flags=re.MULTILINE)
        names.append(found.group(1).strip() if found else "NVIDIA card")
    return tuple(names)


def _on_bus(pci: Path) -> tuple[str, ...]:
    """Cards without a name: of them only the vendor is told."""
    found = []
    for device in sorted(pci.glob("*")):
        try:
            vendor, kind = ((device / name).read_text(encoding="utf-8").strip() for name in ("vendor", "class"))
        except OSError:
            continue
        if vendor == NVIDIA_VENDOR and kind.startswith(DISPLAY_CLASS):
            found.append("NVIDIA card")
    return tuple(found)
