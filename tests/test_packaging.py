"""What gets installed: one package with all rooms in it, whatever folder of the repository they lie in, and honest metadata."""

import ast
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path, PurePosixPath

import pytest

import autounet

ROOT = Path(__file__).resolve().parents[1]
STAGES = ("planners", "preprocessing", "training", "inference")

PACKAGE_OF = {"PIL": "pillow", "mlflow": "mlflow-skinny"}
"""Import name -> distribution, where the two differ by more than case."""


def installed_names() -> set[str]:
    """Files on disk under the names they must have in the wheel."""
    names = set()
    for top in ("autounet", *STAGES):
        for path in (ROOT / top).rglob("*"):
            parts = path.relative_to(ROOT).parts
            if path.is_dir() or "__pycache__" in parts or path.suffix == ".pyc" or (top == "autounet" and parts[1] in STAGES):
                continue
            names.add("/".join(parts if top == "autounet" else ("autounet", *parts)))
    return names


def build(kind: str, folder: Path) -> Path:
    """Builds a wheel or sdist with the build backend that is installed here; no download."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    (file,) = folder.iterdir()
    return file


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", tmp_path_factory.mktemp("wheel"))


def names_in(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        return Parser().parsestr(archive.read(f"autounet-{autounet.__version__}.dist-info/METADATA").decode())


def test_links_and_folders_are_the_same_places() -> None:
    for stage in STAGES:
        assert (ROOT / "autounet" / stage).resolve() == ROOT / stage


def test_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    assert {PurePosixPath(name).parts[0] for name in names_in(wheel)} == {"autounet", f"autounet-{autounet.__version__}.dist-info"}


def test_wheel_has_every_file_on_disk(wheel: Path) -> None:
    packed = {name for name in names_in(wheel) if name.startswith("autounet/")}
    assert packed == installed_names()


def test_sdist_has_every_file_on_disk(tmp_path: Path) -> None:
    """A wheel made from the source archive must be as whole as one made from a checkout."""
    with tarfile.open(build("sdist", tmp_path)) as archive:
        packed = {"/".join(PurePosixPath(name).parts[1:]) for name in archive.getnames()}
    expected = {name.removeprefix("autounet/") if PurePosixPath(name).parts[1] in STAGES else name for name in installed_names()}
    assert expected <= packed
    assert {"pyproject.toml", "LICENSE", "README.md"} <= packed


def test_version_and_console_script(wheel: Path, metadata: Message) -> None:
    assert (metadata["Name"], metadata["Version"]) == ("autounet", autounet.__version__)
    assert f"## {autounet.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").replace("[", "").replace("]", "")
    with zipfile.ZipFile(wheel) as archive:
        scripts = archive.read(f"autounet-{autounet.__version__}.dist-info/entry_points.txt").decode()
        assert scripts.split("\n")[:2] == ["[console_scripts]", "autounet = autounet.cli.main:main"]


def test_licence_is_in_the_wheel(wheel: Path, metadata: Message) -> None:
    assert metadata["License-Expression"] == "Apache-2.0"
    with zipfile.ZipFile(wheel) as archive:
        text = archive.read(f"autounet-{autounet.__version__}.dist-info/licenses/LICENSE").decode()
    assert "Apache License" in text


def distribution(requirement: str) -> str:
    """``SimpleITK>=2.4`` -> ``simpleitk``."""
    return re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0].lower().replace("_", "-")


def test_dependencies_are_exactly_what_the_code_imports() -> None:
    """None missing on a fresh machine, none installed for nothing."""
    imported = set()
    for name in installed_names():
        if not name.endswith(".py"):
            continue
        for node in ast.walk(ast.parse((ROOT / name).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                imported.add(node.module.split(".")[0])
    foreign = {PACKAGE_OF.get(name, name.lower()) for name in imported - set(sys.stdlib_module_names) - {"autounet", *STAGES}}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    optional = {distribution(line) for extra in ("dicom", "track", "zarr") for line in extras[extra]}
    assert foreign - optional == {distribution(line) for line in project["dependencies"]}
    # torch.utils.tensorboard imports the one; the other is imported by its name, with a message where it is missing.
    assert optional - foreign == {"tensorboard", "highdicom"}


def test_constraints_pin_every_dependency() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", line) for line in pins), "name==version, without a local tag"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    assert {distribution(line) for line in needed} - {distribution(line) for line in pins} == {"autounet"}
