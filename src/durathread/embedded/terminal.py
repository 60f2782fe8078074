"""What `durathread dev` writes for people to read."""

import os
import sys

RESET = "\033[0m"
COLOURS = {"dim": "\033[2m", "green": "\033[32m", "red": "\033[31m", "bold": "\033[1m"}
ROLE_COLOURS = {"api": "\033[36m", "worker": "\033[35m"}


class Terminal:
    """Writes lines to stdout: our own, and those of the roles with their name before them."""

    def __init__(self) -> None:
        """Use colours if people watch and do not refuse them."""
        self.coloured = sys.stdout.isatty() and "NO_COLOR" not in os.environ

    def say(self, text: str, *, style: str = "") -> None:
        """Write a line of our own."""
        self._write(f"{COLOURS[style]}{text}{RESET}" if style and self.coloured else text)

    def echo(self, name: str, line: str) -> None:
        """Write a line of a role."""
        prefix = f"{name:<6} │"
        self._write(f"{ROLE_COLOURS.get(name, '')}{prefix}{RESET} {line}" if self.coloured else f"{prefix} {line}")

    def _write(self, line: str) -> None:
        try:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
        except OSError:
            # The terminal was closed; stopping in order matters more.
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115
