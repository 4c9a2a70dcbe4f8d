"""The peer: nnU-Net v2 in an environment of its own. Nothing of it is imported here, and autounet never depends on it.

``python -m benchmarks.peer DIR [pip options]`` makes the environment, or says that the one in DIR will do.
"""

import argparse
import os
import subprocess
import sys
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import CommandFailed, Measured, run_measured

PINNED = {"torch": "2.13.0", "torchvision": "0.28.0", "nnunetv2": "2.8.1"}
_VERSIONS = "from importlib.metadata import version as v; print(*(f'{n}={v(n)}' for n in %r), sep='\\n')" % (tuple(PINNED),)  # noqa: UP031


@dataclass(frozen=True, slots=True)
class Peer:
    """nnU-Net's environment."""

    folder: Path

    @property
    def _programs(self) -> Path:
        return self.folder / ("Scripts" if sys.platform == "win32" else "bin")

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self._programs / ("python.exe" if sys.platform == "win32" else "python")

    def versions(self) -> dict[str, str]:
        """Versions of the pinned packages; empty when there is no such environment or one of them is missing."""
        if not self.python.exists():
            return {}
        asked = subprocess.run([self.python, "-c", _VERSIONS], capture_output=True, text=True, check=False, env=_clean_environment())
        return {} if asked.returncode else dict(line.split("=", 1) for line in asked.stdout.split())

    def environment(self, scratch: Path) -> dict[str, str]:
        """The variables that nnU-Net reads, with all its folders below ``scratch``, which are made; CPU only."""
        folders = {f"nnUNet_{name}": scratch / name for name in ("raw", "preprocessed", "results")}
        for folder in folders.values():
            folder.mkdir(parents=True, exist_ok=True)
        return _clean_environment() | {
            **{name: str(folder) for name, folder in folders.items()},
            "nnUNet_compile": "f",
            "nnUNet_def_n_proc": "2",
            "nnUNet_n_proc_DA": "1",
            "CUDA_VISIBLE_DEVICES": "",
        }

    def run(self, command: Sequence[str | Path], scratch: Path, log: Path) -> Measured:
        """Runs a program of the environment (``nnUNetv2_…``, ``python``) and measures it. Raises CommandFailed."""
        program, *arguments = command
        return run_measured([self._programs / program, *arguments], log=log, env=self.environment(scratch))


def make_peer(folder: Path, pip_options: Sequence[str] = ()) -> Peer:
    """The environment in ``folder``: the one that is there if it has the pinned versions, else a new one.

    Args:
        folder: Of the environment; may be missing.
        pip_options: Handed to ``pip install``, for instance another index.

    Raises:
        CommandFailed: The folder holds something else, or pip cannot install.
    """
    peer = Peer(folder.resolve())
    found = peer.versions()
    if _fits(found):
        return peer
    if folder.exists() and any(folder.iterdir()) and not (folder / "pyvenv.cfg").exists():
        raise CommandFailed(f"{folder}: neither empty nor a virtual environment; name another folder for the peer")
    if not peer.python.exists():
        venv.create(peer.folder, with_pip=True)
    wanted = [f"{name}=={version}" for name, version in PINNED.items()]
    print(f"installing {' '.join(wanted)} into {peer.folder}; this takes some minutes", file=sys.stderr)
    command: list[str | Path] = [peer.python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *pip_options, *wanted]
    if subprocess.run(command, check=False, env=_clean_environment()).returncode:
        raise CommandFailed(f"pip could not install {' '.join(wanted)} into {peer.folder}; its message is above")
    found = peer.versions()
    if not _fits(found):
        raise CommandFailed(f"{peer.folder}: has {found or 'none of them'}, expected {PINNED}")
    return peer


def _fits(found: dict[str, str]) -> bool:
    """Whether versions are the pinned ones; a build's local part (``+cpu``) does not matter."""
    return {name: version.partition("+")[0] for name, version in found.items()} == PINNED


def _clean_environment() -> dict[str, str]:
    """This process's variables without those that would mix the two environments."""
    return {
        name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME") and not name.startswith("nnUNet_")
    }


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peer", description=__doc__)
    parser.add_argument("folder", type=Path, help="folder of the environment; made if it is missing")
    arguments, pip_options = parser.parse_known_args()
    peer = make_peer(arguments.folder, pip_options)
    print(f"{peer.folder}: {', '.join(f'{name} {version}' for name, version in peer.versions().items())}")


if __name__ == "__main__":
    main()
