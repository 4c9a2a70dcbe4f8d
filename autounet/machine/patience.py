"""Waiting for what may never answer: a network disk that is gone, a driver that hangs."""

import subprocess
import threading
from collections.abc import Callable
from typing import TypeVar

Answer = TypeVar("Answer")


def within(seconds: float, work: Callable[[], Answer]) -> Answer:
    """What ``work`` returns or raises, if it does so in time.

    It goes on in a thread of its own, which is left behind where it takes longer, and does not keep the program from ending.

    Raises:
        TimeoutError: It did not.
    """
    answers: list[Answer] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            answers.append(work())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="autounet-probe", daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not answers:
        raise TimeoutError(f"no answer within {seconds:g} s")
    return answers[0]


def output_of(*command: str, seconds: float = 5.0) -> str:
    """What a program prints; empty where there is no such program, it fails or takes too long."""
    try:
        # Not text=True: who prints what is not UTF-8 must not end us.
        done = subprocess.run(command, capture_output=True, timeout=seconds, check=True, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode("utf-8", errors="replace")
