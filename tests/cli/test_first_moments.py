"""Ctrl-C and SIGTERM in the first moments, while libraries are imported: one sentence and exit code 130, never a traceback."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = """
import autounet.__main__
print("begun", flush=True)
autounet.__main__.main()
"""
"""Before its first lines have run, Python itself is at work."""

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="other signals")


def ended_by(number: signal.Signals, seconds: float, program: str, *arguments: str) -> tuple[int, str]:
    """Exit code and what was said by a program that is sent a signal so long after its first line has run."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # programs in the background of a shell ignore it
    try:
        command = [sys.executable, "-c", program, *arguments]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    finally:
        signal.signal(signal.SIGINT, before)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    time.sleep(seconds)
    process.send_signal(number)
    _, said = process.communicate(timeout=120)
    return process.returncode, said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_while_libraries_are_imported(number: signal.Signals, tmp_path: Path) -> None:
    """``import`` loads torch at once; a folder without a model then ends it with 1, if it comes so far."""
    moments = random.Random(int(number))
    for _ in range(2):
        code, said = ended_by(number, moments.uniform(0.02, 1.5), PROGRAM, "import", str(tmp_path), "-o", str(tmp_path / "x.zip"))
        assert "Traceback" not in said
        assert code in (1, 130), said
        assert code == 1 or "interrupted" in said


SLOW_LIBRARY = """
import sys, time
from autounet.cli.guard import guarded
import typer

@guarded
def command() -> None:
    sys.path.insert(0, sys.argv[1])
    import slow_library
    print("imported", slow_library.done, file=sys.stderr, flush=True)
    time.sleep(60)

try:
    command()
except typer.Exit as end:
    sys.exit(end.exit_code)
"""


def test_a_library_is_imported_to_its_end_first(tmp_path: Path) -> None:
    """This one makes another error of whatever goes wrong, as compiled modules do."""
    (tmp_path / "slow_library.py").write_text(
        "import time\nprint('begun', flush=True)\n"
        "try:\n    time.sleep(0.3)\nexcept BaseException:\n    raise ImportError('lost')\ndone = True\n"
    )
    code, said = ended_by(signal.SIGINT, 0.05, SLOW_LIBRARY, str(tmp_path))
    assert code == 130, said
    assert said.splitlines()[0] == "imported True"
    assert "interrupted; what is finished is kept" in said


CONVERTING = """
import sys, time
from autounet.cli.guard import guarded
import typer

@guarded
def command() -> None:
    try:
        print("begun", flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        raise TypeError("incompatible function arguments")

try:
    command()
except typer.Exit as end:
    sys.exit(end.exit_code)
"""


def test_what_a_compiled_module_makes_of_an_interruption_is_one() -> None:
    code, said = ended_by(signal.SIGTERM, 0.0, CONVERTING)
    assert (code, "interrupted" in said, "bug" in said) == (130, True, False)


LOST = """
import os, signal, sys, time
from autounet.cli.guard import guarded
import typer

@guarded
def command() -> None:
    class Late:
        def __del__(self): os.kill(os.getpid(), signal.SIGTERM); time.sleep(0.01)
    late = Late()
    del late
    time.sleep(60)

print("begun", flush=True)
try:
    command()
except typer.Exit as end:
    sys.exit(end.exit_code)
"""


def test_an_interruption_that_python_loses_comes_again() -> None:
    """Python ignores what is raised while an object is taken down, and would print a traceback."""
    command = [sys.executable, "-c", LOST]
    began = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, "interrupted" in done.stderr, "Traceback" in done.stderr) == (130, True, False), done.stderr
    assert time.monotonic() - began < 50
