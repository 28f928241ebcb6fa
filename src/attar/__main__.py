"""``python -m attar``."""

from attar.cli.front import main

main()
