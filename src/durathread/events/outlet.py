"""Where the events of one step go."""

import asyncio
from collections.abc import Sequence

from durathread.records import Run
from durathread.streams.events import Said
from durathread.streams.frames import Frame, frames_subject
from durathread.streams.publisher import OVERHEAD, Publisher

# After so many bytes a step asks whether Valkey keeps up: it costs a turn of two event loops.
ASKING = 128 * 1024


class Outlet:
    """Takes what one step says, and lets it wait when it says more than Valkey takes. Used on the graphs' loop."""

    def __init__(self, publisher: Publisher, run: Run) -> None:
        """Take the run, as claimed."""
        self._publisher = publisher
        self._run_id = str(run.run_id)
        self._token = run.attempt
        self._subjects = self._run_id, frames_subject(run.thread_id)
        self._said = 0

    def event(self, name: str, data: bytes) -> None:
        """Take an event of the run's stream."""
        self._said += len(data) + OVERHEAD
        self._publisher.publish_soon([Said(self._run_id, name, data, self._token)])

    def frames(self, frames: Sequence[Frame]) -> None:
        """Take protocol events that belong together."""
        self._said += sum(len(frame.data) + OVERHEAD for frame in frames)
        self._publisher.publish_frames_soon(frames, token=self._token)

    async def room(self) -> None:
        """Wait while too much of the run waits for Valkey."""
        if self._said < ASKING:
            return
        self._said = 0
        # What was said before is queued by then: the loop takes calls in their order.
        asked = asyncio.run_coroutine_threadsafe(self._publisher.room(*self._subjects), self._publisher.loop)
        await asyncio.wrap_future(asked)
