"""``python -m vm``."""

from vm.cli import main

main()
