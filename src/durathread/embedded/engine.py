"""An engine: a child that listens on ports of this machine."""

from abc import abstractmethod

from durathread.embedded.child import Child
from durathread.errors import EngineError

TAKEN = "address already in use"
TRIES = 5


class Engine(Child):
    """A server whose ports are chosen before it starts. Another process may take one of them in between."""

    # What it keeps is for its owner's eyes, wherever the data folder lies.
    umask = "077"
    _has_served = False

    @abstractmethod
    def move(self) -> None:
        """Choose other ports in place of those that are taken by now."""

    async def start(self) -> None:
        """Start it and wait until it is ready; on other ports if its own are taken, unless others already know them.

        Raises:
            EngineError: it ended first, or took too long; says what it wrote last.
        """
        for tries in range(1, TRIES + 1):
            try:
                await super().start()
            except EngineError:
                if self._has_served or tries == TRIES or TAKEN not in self.written().lower():
                    raise
                self.move()
            else:
                self._has_served = True
                return
