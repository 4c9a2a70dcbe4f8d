"""Nothing is waited for longer than was said."""

import sys
import time

import pytest

from autounet.machine.patience import output_of, within


def test_an_answer_and_an_error_come_through() -> None:
    assert within(5, lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        within(5, lambda: 1 // 0)


def test_no_answer() -> None:
    began = time.monotonic()
    with pytest.raises(TimeoutError, match=r"0\.05 s"):
        within(0.05, lambda: time.sleep(3))
    assert time.monotonic() - began < 2


def test_programs() -> None:
    """What one prints, whatever the encoding; nothing of one that is not there, fails or hangs."""
    assert output_of(sys.executable, "-c", r"import os; os.write(1, b'a\xff')") == "a\ufffd"
    assert output_of("no-such-program-anywhere") == ""
    assert output_of(sys.executable, "-c", "raise SystemExit(1)") == ""
    assert output_of(sys.executable, "-c", "import time; time.sleep(9)", seconds=0.3) == ""
