"""``python -m autounet``."""

from autounet.cli.main import main

main()
