"""Windows, macOS and Linux: what only some of them have is used where there is another way, and nowhere else. Proved on the source."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

import pytest

ROOT = Path(__file__).resolve().parents[1]
STAGES = ("planners", "preprocessing", "training", "inference")

POSIX_MODULES = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"}
WINDOWS_MODULES = {"_winapi", "msvcrt", "winreg", "winsound"}
PROCESSES = {"multiprocessing", "torch.multiprocessing", "concurrent.futures.process"}
"""Threads do the work: there is nothing to pickle, no start method to choose and no /dev/shm to fill."""

POSIX_NAMES = re.compile(
    r"os\.(O_(?!BINARY|CREAT|EXCL|RDONLY|RDWR|WRONLY|TRUNC|APPEND)[A-Z]+|POSIX_\w+|chown|chroot|confstr|ctermid|fchmod|fchown|fork\w*"
    r"|get(e?[ug]id|groups|loadavg|pgid|pgrp|priority|sid)|initgroups|kill(pg)?|lchown|lockf|major|memfd_create|minor|mkfifo|mknod"
    r"|nice|openpty|pidfd_open|pipe2|posix_\w+|preadv?|pwritev?|sched_\w+|sendfile|set(e?[ug]id|pgid|priority|sid)|splice|statvfs|symlink|sync"
    r"|sysconf\w*|tcgetpgrp|uname|wait\w*)"
    r"|signal\.(SIG(?!INT\b|TERM\b|ABRT\b|_DFL\b|_IGN\b)[A-Z0-9]+|alarm|setitimer|pthread_\w+|sigwait\w*|siginterrupt)"
    r"|time\.(tzset|clock_\w+)|select\.(poll|epoll|kqueue)"
)
PLACES = re.compile(r"^/(proc|sys|dev|tmp|etc|var|usr)(/|$)")

WITH_ANOTHER_WAY = {
    "autounet.cgroups": {"/proc", "/sys/fs/cgroup"},  # where they are not, nothing limits
    "autounet.machine.cards": {"/proc", "/sys/bus/pci/devices"},  # after nvidia-smi, which all systems have
    "autounet.machine.disk": {"/proc/self/mountinfo", "os.POSIX_FADV_DONTNEED"},  # `mount` or Windows's own; then figures are called cached
    "autounet.machine.system": {"/dev/shm"},  # told, not used
    "autounet.owner": {"/proc/", "/proc/self/ns/pid", "os.kill"},  # on Windows the process is opened instead
}
"""By module, with what is done where it is not there. What a module asks for with ``hasattr`` or ``getattr`` needs no entry."""


def sources() -> dict[str, ast.Module]:
    """Every module by its import name."""
    found = {}
    for top in ("autounet", *STAGES):
        for path in sorted((ROOT / top).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            if top == "autounet" and parts[1] in STAGES:
                continue  # seen through a link
            name = ".".join(parts if top == "autounet" else ("autounet", *parts)).removesuffix(".__init__")
            found[name] = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    return found


SOURCES = sources()


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def not_everywhere(tree: ast.AST) -> Iterator[str]:
    """Attributes and paths that some systems lack."""
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and POSIX_NAMES.fullmatch(name := ast.unparse(node)):
            yield name
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings and PLACES.match(node.value):
            yield node.value


def asked_for(tree: ast.AST) -> set[str]:
    """Attributes that a module asks for before it uses them: ``hasattr(os, "fork")``, ``getattr(os, "fork", None)``."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) in ("hasattr", "getattr")]
    return {f"{ast.unparse(call.args[0])}.{call.args[1].value}" for call in calls if isinstance(call.args[1], ast.Constant)}


def guarded_imports(tree: ast.AST) -> set[str]:
    """Modules that are imported in a ``try`` that goes on without them."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Try) and any(
            handler.type is not None and "ImportError" in ast.unparse(handler.type) for handler in node.handlers
        ):
            found |= {name for child in node.body for name in imported(child)}
    return found


def test_the_rules_themselves() -> None:
    code = "os.fork()\nos.open(p, os.O_CREAT | os.O_TMPFILE)\nsignal.signal(signal.SIGTERM, f)\nos.kill(1, signal.SIGKILL)\nx = '/tmp/x'"
    assert sorted(not_everywhere(ast.parse(code))) == ["/tmp/x", "os.O_TMPFILE", "os.fork", "os.kill", "signal.SIGKILL"]
    assert list(not_everywhere(ast.parse("os.path.join(a)\nos.fsync(f)\nos.replace(a, b)\n'/tmp/x'\nos.getpid()"))) == []
    assert asked_for(ast.parse("if hasattr(os, 'fork'):\n os.fork()")) == {"os.fork"}
    assert guarded_imports(ast.parse("try:\n import fcntl\nexcept ImportError:\n pass\nimport pwd")) == {"fcntl"}


def test_what_some_systems_lack_has_another_way() -> None:
    found = {name: set(not_everywhere(tree)) - asked_for(tree) - WITH_ANOTHER_WAY.get(name, set()) for name, tree in SOURCES.items()}
    assert {name: names for name, names in found.items() if names} == {}, "find another way, and say here which it is"


def test_the_list_of_exceptions_is_not_longer_than_need_be() -> None:
    for name, names in WITH_ANOTHER_WAY.items():
        if name in SOURCES:
            assert names <= set(not_everywhere(SOURCES[name])), name


def test_modules_of_one_system_are_imported_with_another_way() -> None:
    wrong = [
        f"{name}: {module}"
        for name, tree in SOURCES.items()
        for module in imported(tree)
        if module in POSIX_MODULES and module not in guarded_imports(tree)
    ]
    assert wrong == []
    windows = {name for name, tree in SOURCES.items() if WINDOWS_MODULES & set(imported(tree))}
    assert windows <= {"autounet.machine.system", "autounet.owner"}


def test_no_processes_are_started_for_work() -> None:
    """Nothing depends on whether Python forks or spawns."""
    wrong = [
        f"{name}: {module}"
        for name, tree in SOURCES.items()
        for module in imported(tree)
        if module in PROCESSES or module.startswith("multiprocessing.") or module.endswith(".ProcessPoolExecutor")
    ]
    assert wrong == []


def without_encoding(tree: ast.AST) -> Iterator[str]:
    """Calls that read or write text in whatever encoding the system has."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or "encoding" in {keyword.arg for keyword in node.keywords}:
            continue
        method = isinstance(node.func, ast.Attribute)
        called = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id if isinstance(node.func, ast.Name) else ""
        if called == "open":
            # Methods of that name open other things as well: of them only those count that are given a mode.
            mode = node.args[0 if method else 1 :][:1]
            text = re.fullmatch("'[rwa][+t]*'", ast.unparse(mode[0])) is not None if mode else not method
        else:
            text = called in ("FileHandler", "TextIOWrapper", "fdopen") or (method and called in ("read_text", "write_text"))
        if text:
            yield f"{node.lineno} {called}"


def test_text_files_have_an_encoding() -> None:
    """Windows takes its own unless it is told: names with accents would be read wrongly there."""
    shown = ast.parse("p.open('r+')\nopen(p)\np.open('w')\np.read_text()\np.open('rb')\np.open('r', encoding='utf-8')\nBundle.open(p)")
    assert [place.split()[0] for place in without_encoding(shown)] == ["1", "2", "3", "4"]
    assert [f"{name}:{place}" for name, tree in SOURCES.items() for place in without_encoding(tree)] == []


def test_times_have_a_zone() -> None:
    """What is written down means the same on another machine."""
    wrong = [
        f"{name}:{node.lineno}"
        for name, tree in SOURCES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and re.fullmatch(r"(datetime\.)?datetime\.(now|utcnow|today|fromtimestamp)|(datetime\.)?date\.today", ast.unparse(node.func))
        and (not node.args or ast.unparse(node.func).endswith("utcnow"))
        and "tz" not in {keyword.arg for keyword in node.keywords}
    ]
    assert wrong == []


def test_paths_are_not_cut_at_slashes() -> None:
    """A path becomes text by ``str`` only for people; text that is compared or written for machines has ``as_posix``."""
    wrong = [
        f"{name}:{node.lineno}"
        for name, tree in SOURCES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("split", "rsplit", "partition", "rpartition")
        and ast.unparse(node.func.value).startswith(("str(path", "str(self.path", "str(folder"))
    ]
    assert wrong == []


@pytest.mark.parametrize("flavour", [PurePosixPath, PureWindowsPath])
def test_members_of_bundles_are_the_same_everywhere(flavour: type[PurePosixPath] | type[PureWindowsPath]) -> None:
    """They are text with slashes, whatever the system's own separator; and lead to the same place on each."""
    from autounet.bundle import KNOWN, weights_member

    name = weights_member("3d_fullres", "0")
    assert name == "models/3d_fullres/fold_0/weights.safetensors"
    assert KNOWN.fullmatch(name)
    assert flavour(name).parts == ("models", "3d_fullres", "fold_0", "weights.safetensors")
    for bad in (str(PureWindowsPath(name)), "C:/models/a/fold_0/weights.safetensors", "models/con:/fold_0/weights.safetensors"):
        assert not KNOWN.fullmatch(bad)


@pytest.mark.parametrize("flavour", [PurePosixPath, PureWindowsPath])
def test_the_layout_of_a_run_folder_is_the_same_everywhere(
    flavour: type[PurePosixPath] | type[PureWindowsPath], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No name in it is cut at a slash, reserved on Windows, or the same as another one where case does not count."""
    from autounet.layout import RunLayout
    from autounet.portable import same_but_for_case, unusable_on_windows

    layout = RunLayout(flavour("runs/Task04"))  # type: ignore[arg-type]
    fold = layout.fold("3d_fullres", "0")
    paths = []
    for holder in (layout, fold):
        for attribute in dir(type(holder)):
            if not attribute.startswith("_") and isinstance(getattr(type(holder), attribute), property):
                paths.append(getattr(holder, attribute))
    assert len(paths) > 10
    for path in paths:
        assert path.as_posix().startswith("runs/Task04/"), path
        assert all(unusable_on_windows(part) is None for part in path.parts), path
    assert same_but_for_case(path.as_posix() for path in paths) == []
