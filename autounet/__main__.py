"""``python -m autounet``, and what the console script calls: from the first line on, Ctrl-C ends with one sentence, not a traceback."""

import os
import signal


def leave_at_once(number: int, frame: object) -> None:
    """Before a command begins, and when it is done, there is nothing to put down; an exception could be lost in an import."""
    os.write(2, b"interrupted\n")
    os._exit(130)


def main() -> None:
    """Runs the command line."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, leave_at_once)
    from autounet.cli.main import main as command_line

    command_line()


if __name__ == "__main__":
    main()
