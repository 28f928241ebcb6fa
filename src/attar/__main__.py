"""``python -m attar``."""

from attar.cli.main import main

main()
