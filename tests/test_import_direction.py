"""The floors of docs/architecture.md, proved on the source text: imports go only downward, and some rooms never load torch.

Every import counts for the direction, also one inside a function or under ``TYPE_CHECKING``: a cycle that is hidden is still a cycle.
"""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
STAGES = ("planners", "preprocessing", "training", "inference")

FLOORS = (
    (
        "",
        "artefact",
        "colours",
        "cgroups",
        "dataset",
        "dataset_json",
        "dataset_globs",
        "dataset_search",
        "dataset_table",
        "dataset_writing",
        "errors",
        "fingerprint",
        "folds",
        "geometry",
        "image_names",
        "labels",
        "layout",
        "owner",
        "plan",
        "portable",
        "postprocessing",
        "preset",
        "rotation",
        "runtime",
        "selection",
        "splits",
        "text_files",
    ),
    (
        "archive",
        "bundle",
        "bundle_check",
        "bundle_text",
        "checkpoint",
        "device",
        "evaluation",
        "images",
        "interop",
        "memory",
        "networks",
        "parallel",
        "phantom",
    ),
    ("planners", "preprocessing"),
    ("training", "inference", "health"),
    ("report", "machine"),
    ("cli",),
)
"""Rooms below ``autounet``, floor by floor; the empty name is ``autounet/__init__.py``."""

FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}

SAME_FLOOR = {0, 1}
"""On these floors rooms may import each other, as long as there is no cycle."""

NOT_BELOW = {"planners": {"networks"}, "training": {"planners"}, "inference": {"planners"}, "health": {"preprocessing"}}
"""Rooms on a lower floor that are closed all the same."""

DOORS = {"planners": {"autounet.networks.cost"}}
"""Modules of a closed room that may be imported."""

WITHOUT_TORCH = (*FLOORS[0], "health", "images", "memory", "parallel", "phantom", "planners")
"""Rooms that neither import torch when they are imported nor load a module that does."""

IMAGE_LIBRARIES = {"SimpleITK", "nibabel", "tifffile", "PIL", "pydicom", "skimage", "matplotlib"}
"""Imported by the reader that needs one, on first use."""


def files() -> dict[str, Path]:
    """Every module on disk by its import name; the links inside autounet/ are not followed, the real folders are read."""
    found = {}
    for top in ("autounet", *STAGES):
        for path in sorted((ROOT / top).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            if top == "autounet" and len(parts) > 1 and parts[1] in STAGES:
                continue  # seen through a link
            parts = parts if top == "autounet" else ("autounet", *parts)
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


FILES = files()


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(FILES[module].read_text(encoding="utf-8"), filename=str(FILES[module]))


def room(module: str) -> str:
    """``autounet.planners.spacing`` -> ``planners``; ``python -m autounet`` is another door to the command line."""
    name = module.split(".")[1] if "." in module else ""
    return "cli" if name == "__main__" else name


def statements(node: ast.AST, *, lazy: bool) -> Iterator[ast.AST]:
    """Nodes below ``node``; without ``lazy`` only what runs when the module is imported."""
    for child in ast.iter_child_nodes(node):
        if not lazy and isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if not lazy and isinstance(child, ast.If) and ast.unparse(child.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}:
            yield from (found for part in child.orelse for found in (part, *statements(part, lazy=lazy)))
            continue
        yield child
        yield from statements(child, lazy=lazy)


def imports(module: str, *, lazy: bool = True) -> set[str]:
    """Names of the modules that a module imports; ``from a import b`` is ``a.b`` where that is a module, else ``a``."""
    names = set()
    for node in statements(tree(module), lazy=lazy):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            source = node.module or ""
            names |= {full if (full := f"{source}.{alias.name}") in FILES else source for alias in node.names}
    return names


def own_imports(module: str) -> set[str]:
    return {name for name in imports(module) if name.split(".")[0] == "autounet"}


@cache
def loaded(module: str) -> dict[str, tuple[str, ...]]:
    """Everything that importing a module imports, each with the way that leads there; outside packages by their top-level name."""
    ways: dict[str, tuple[str, ...]] = {module: (module,)}
    todo = [module]
    while todo:
        current = todo.pop()
        parts = current.split(".")
        # importing a.b.c runs a/__init__.py and a/b/__init__.py too
        needed = {".".join(parts[:n]) for n in range(1, len(parts))} | imports(current, lazy=False)
        for name in needed:
            known = name if name in FILES else name.split(".")[0]
            if known not in ways:
                ways[known] = (*ways[current], known)
                if known in FILES:
                    todo.append(known)
    return ways


def allowed(importer: str, imported: str) -> bool:
    """Whether the floors let module ``importer`` import module ``imported``."""
    if (importer, imported) == ("autounet", "autounet.inference"):
        return True  # the Python interface, looked up on first use
    above, below = room(importer), room(imported)
    if above not in FLOOR or below not in FLOOR:
        return False
    if above == below or imported in DOORS.get(above, ()):
        return True
    if below in NOT_BELOW.get(above, ()):
        return False
    return FLOOR[below] < FLOOR[above] or (FLOOR[below] == FLOOR[above] and FLOOR[above] in SAME_FLOOR)


def cycle(graph: dict[str, set[str]]) -> list[str]:
    """One cycle of a directed graph, or an empty list."""
    state: dict[str, int] = {}

    def visit(node: str, way: list[str]) -> list[str]:
        state[node] = 1
        for target in sorted(graph.get(node, ())):
            if state.get(target) == 1:
                return [*way[way.index(target) :], target]
            if target not in state and (found := visit(target, [*way, target])):
                return found
        state[node] = 2
        return []

    for node in sorted(graph):
        if node not in state and (found := visit(node, [node])):
            return found
    return []


def test_the_rules_themselves() -> None:
    """The arithmetic of the floors, on examples taken from the table."""
    assert allowed("autounet.cli.main", "autounet.training.loop")
    assert allowed("autounet.__main__", "autounet.cli.main")
    assert allowed("autounet.planners.budget", "autounet.networks.cost")
    assert not allowed("autounet.planners.budget", "autounet.networks.unet")
    assert not allowed("autounet.planners.budget", "autounet.preprocessing.crop")
    assert allowed("autounet.training.run", "autounet.preprocessing.store")
    assert not allowed("autounet.training.run", "autounet.planners.presets")
    assert not allowed("autounet.training.run", "autounet.inference.window")
    assert not allowed("autounet.geometry", "autounet.images.nifti")
    assert not allowed("autounet.report.html", "autounet.cli.main")
    assert cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert cycle({"a": {"b", "c"}, "b": {"c"}}) == []


def test_every_module_belongs_to_a_floor() -> None:
    homeless = sorted(name for name in FILES if room(name) not in FLOOR)
    assert homeless == [], "give the room a floor here and in docs/architecture.md"


def test_every_folder_of_modules_is_a_package() -> None:
    folders = {path.parent for path in FILES.values()}
    assert sorted(str(folder.relative_to(ROOT)) for folder in folders if not (folder / "__init__.py").is_file()) == []


def test_imports_exist_and_go_only_downward() -> None:
    wrong = [
        f"{name} imports {target}"
        for name in FILES
        for target in sorted(own_imports(name))
        if target not in FILES or not allowed(name, target)
    ]
    assert wrong == []


def test_nobody_imports_the_command_line() -> None:
    assert [name for name in FILES if room(name) != "cli" and any(room(target) == "cli" for target in own_imports(name))] == []


def test_rooms_form_no_cycle() -> None:
    graph: dict[str, set[str]] = {}
    for name in FILES:
        graph.setdefault(room(name), set()).update(room(target) for target in own_imports(name) if room(target) != room(name))
    graph.pop("")  # autounet/__init__.py holds the version only
    assert cycle(graph) == []


def test_modules_form_no_cycle() -> None:
    assert cycle({name: own_imports(name) - {name} for name in FILES}) == []


def test_the_root_imports_nothing_until_it_is_asked() -> None:
    assert imports("autounet", lazy=False) == {"typing"}


@pytest.mark.parametrize("library", ["torch", *sorted(IMAGE_LIBRARIES)])
def test_heavy_libraries_stay_out_of_light_rooms(library: str) -> None:
    """Planning needs no torch, and an image library is loaded by the first file of its kind."""
    ways = [ways[library] for name in FILES if room(name) in WITHOUT_TORCH and library in (ways := loaded(name))]
    assert [" -> ".join(way) for way in ways] == []


def test_imports_are_absolute_and_use_the_one_package_name() -> None:
    """``import planners`` works in a checkout, but would load every module a second time under another name."""
    relative = [
        f"{name}:{node.lineno}" for name in FILES for node in ast.walk(tree(name)) if isinstance(node, ast.ImportFrom) and node.level
    ]
    bare = [f"{name}: {target}" for name in FILES for target in imports(name) if target.split(".")[0] in STAGES]
    assert relative + bare == []


CALLS = {"print", "input", "exit", "quit", "breakpoint"}
ATTRIBUTES = {"os.environ", "os.environb", "os.getenv", "os.putenv", "os._exit", "sys.exit", "sys.argv", "sys.stdout", "sys.stderr"}


def outside_talk(module: str) -> Iterator[str]:
    """Places where a module reads the environment, ends the process or writes to the terminal."""
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in CALLS:
            yield f"{module}:{node.lineno} {node.func.id}()"
        elif isinstance(node, ast.Attribute) and ast.unparse(node) in ATTRIBUTES:
            yield f"{module}:{node.lineno} {ast.unparse(node)}"
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{module}:{node.lineno} {node.module}.{a.name}" for a in node.names if f"{node.module}.{a.name}" in ATTRIBUTES)
        elif isinstance(node, ast.Name) and node.id == "SystemExit":
            yield f"{module}:{node.lineno} SystemExit"


def test_environment_terminal_and_exit_belong_to_the_command_line() -> None:
    assert [place for name in FILES if room(name) != "cli" for place in outside_talk(name)] == []
