"""Where data and results are looked for, the record that commands leave, locks, and what a closed or poor terminal does."""

import json
import logging
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from autounet.cli.locks import one_at_a_time
from autounet.cli.session import Session, open_session, parse_duration, recorded
from autounet.errors import ArtefactError, AutounetError, UsageError
from autounet.layout import RunLayout

Autounet = Callable[..., Any]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _logger() -> Any:
    """Opening a session sets the package's logger up; other tests want it as it was."""
    logger = logging.getLogger("autounet")
    before = logger.handlers, logger.level, logger.propagate
    yield
    logger.handlers, logger.level, logger.propagate = before


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("90", 90), ("15m", 900), ("2h", 7200), ("1h30m", 5400), ("1.5h", 5400), (" 10M ", 600), ("1h1m1s", 3661)],
)
def test_parse_duration(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "0", "0m", "-5m", "5 m 3", "m", "1m1h", "inf", "nan", "1e3"])
def test_parse_duration_refuses(text: str) -> None:
    with pytest.raises(UsageError, match="not a time"):
        parse_duration(text)


def test_folders_of_datasets_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert open_session().data == [Path(), Path("data"), Path("raw")]
    monkeypatch.setenv("AUTOUNET_DATA", "/own")
    monkeypatch.setenv("nnUNet_raw", "/nnunet")
    assert open_session().data == [Path("/own"), Path(), Path("data"), Path("raw"), Path("/nnunet")]
    assert open_session(data=[tmp_path]).data == [tmp_path]  # --data alone counts


def test_folder_of_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_session().runs == Path("autounet_runs")
    monkeypatch.setenv("AUTOUNET_RUNS", "/results")
    assert open_session().runs == Path("/results")
    assert open_session(runs=Path("here")).runs == Path("here")


@pytest.mark.parametrize("variable", ["AUTOUNET_DATA", "nnUNet_raw"])
def test_environment_all_the_way(variable: str, trained: Any, autounet: Autounet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, str(trained.data))
    monkeypatch.setenv("AUTOUNET_RUNS", str(tmp_path / "results"))
    assert autounet("plan", "-d", "12", cwd=tmp_path).code == 0
    assert (tmp_path / "results" / "Dataset012_Cells" / "plan.json").is_file()


def test_workers_are_the_cores_at_most_eight() -> None:
    assert 1 <= open_session().runtime.workers <= 8
    assert open_session(workers=0).runtime.workers == 0
    assert open_session(workers=33).runtime.workers == 33


def entries(layout: RunLayout) -> list[dict[str, Any]]:
    return json.loads(layout.manifest.read_text(encoding="utf-8"))  # type: ignore[no-any-return]


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return open_session(runs=tmp_path, arguments=["plan", "-d", "a name"], quiet=True)


@pytest.mark.parametrize(
    ("error", "status"),
    [(None, "done"), (UsageError("x: wrong"), "failed"), (KeyboardInterrupt(), "interrupted"), (ZeroDivisionError(), "failed")],
)
def test_every_end_is_recorded(error: BaseException | None, status: str, session: Session) -> None:
    layout = session.layout("Dataset001_X")
    with suppress(BaseException), recorded(session, layout) as record:
        record["answer"] = 42
        if error is not None:
            raise error
    (entry,) = entries(layout)
    assert (entry["status"], entry["answer"]) == (status, 42)
    assert entry["command"] == ["autounet", "plan", "-d", "a name"]
    log = layout.log.read_text(encoding="utf-8")
    assert "$ autounet plan -d 'a name'" in log
    assert f"{status} after" in log
    assert ("x: wrong" in log) == isinstance(error, UsageError)
    assert ("ZeroDivisionError" in log) == isinstance(error, ZeroDivisionError)


def test_the_manifest_grows_and_survives_damage(session: Session) -> None:
    layout = session.layout("Dataset001_X")
    for _ in range(2):
        with recorded(session, layout):
            pass
    assert len(entries(layout)) == 2
    layout.manifest.write_text("{")
    with recorded(session, layout):
        pass
    assert len(entries(layout)) == 1


def test_the_first_error_is_the_one_that_counts(session: Session) -> None:
    """A command that fails in a folder that has become unwritable reports its own error, not that of its record."""
    layout = session.layout("Dataset001_X")
    layout.manifest.mkdir(parents=True)
    with pytest.raises(AutounetError, match="the real one"), recorded(session, layout):
        raise AutounetError("the real one")
    with pytest.raises(ArtefactError, match=r"manifest\.json: cannot be"), recorded(session, layout):
        pass


# locks ----------------------------------------------------------------------------------------------------------------


def hold(path: Path, seconds: float, ready: Any) -> None:
    with one_at_a_time(path, lambda holder: None):
        ready.set()
        time.sleep(seconds)


@pytest.mark.skipif(sys.platform == "win32", reason="no locks there")
def test_a_lock_waits_or_refuses_and_ends_with_its_process(tmp_path: Path) -> None:
    lock, context = tmp_path / ".lock", multiprocessing.get_context("spawn")
    ready = context.Event()
    holder = context.Process(target=hold, args=(lock, 60, ready))
    holder.start()
    assert ready.wait(30)
    with pytest.raises(AutounetError, match="busy"), one_at_a_time(lock, lambda holder: AutounetError("busy")):
        pass
    waited = []

    def stop_the_holder(_: str) -> None:
        waited.append(True)
        holder.kill()

    with one_at_a_time(lock, stop_the_holder):
        assert waited
    holder.join()
    with one_at_a_time(lock, lambda holder: AutounetError("busy")):
        pass


def test_a_lock_where_nothing_can_be_written(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="cannot be written"), one_at_a_time(tmp_path / "nowhere" / ".lock", lambda holder: None):
        pass


# real processes -------------------------------------------------------------------------------------------------------


def start(*arguments: object, **more: Any) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"} | more.pop("env", {})
    command = [sys.executable, "-m", "autounet", *(str(argument) for argument in arguments)]
    more = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
    return subprocess.Popen(command, cwd=ROOT, text=True, env=environment, **more)


def test_commands_at_the_same_time_in_one_run_folder(trained: Any, tmp_path: Path, kit: SimpleNamespace) -> None:
    """Both prepare the same cases: one after the other, and each finds everything in order."""
    command = ("preprocess", "-d", trained.volumes, "--preset", "small", "--runs", tmp_path)
    both = [start(*command) for _ in range(2)]
    for process in both:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        assert "3d_fullres: 6 cases prepared" in out
    run = tmp_path / "Dataset011_Boxes"
    assert [entry["status"] for entry in entries(RunLayout(run))] == ["done", "done"]
    assert not list(run.rglob(".partial*"))


@pytest.mark.skipif(sys.platform == "win32", reason="other shells")
def test_streams_that_are_poor_closed_or_full(trained: Any, tmp_path: Path) -> None:
    """ASCII alone shows stand-ins; a closed standard output loses the text and nothing else; a full disk is one error."""
    command = ("plan", "-d", trained.cells, "--runs", tmp_path)
    poor = start(*command, env={"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"})
    out, err = poor.communicate(timeout=60)
    assert (poor.returncode, err) == (0, "")
    assert "48 \\xd7 56" in out
    closed = start(*command, stdout=None, preexec_fn=lambda: os.close(1))
    _, err = closed.communicate(timeout=60)
    assert (closed.returncode, err) == (0, "")
    if Path("/dev/full").exists():
        with open("/dev/full", "w") as full:
            process = start(*command, stdout=full)
            _, err = process.communicate(timeout=60)
        assert process.returncode == 1
        assert "bug" not in err
        assert "Traceback" not in err
