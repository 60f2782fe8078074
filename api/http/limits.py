"""What a connection may cost before anybody knows who it is: headers, time, and that there are others.

Uvicorn bounds none of these for httptools, so this extends its protocol, which its configuration takes as a class but which it
does not document. This module alone does; tests/hostile/test_floods.py fails when it changes.
"""

import asyncio
from typing import Any, Literal, cast

import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

log = structlog.get_logger()

# Bytes of a request's line and headers together, its trailers included.
MOST_HEADERS = 64 * 1024
# Seconds in which a request's head must be complete, and in which its body must bring so many bytes.
HEADERS_PATIENCE = 15.0
LEAST_BODY = 64 * 1024
# Seconds in which a client must read so many bytes of an answer that waits for it.
UNREAD = 300.0
LEAST_READ = 64 * 1024
REASONS = {408: "Request Timeout", 431: "Request Header Fields Too Large", 503: "Service Unavailable"}


class BoundedHttp(HttpToolsProtocol):
    """A connection that is closed when a request takes too much room, or too long to come."""

    most_connections: int

    def __init__(self, *args: Any, **options: Any) -> None:
        """Take what Uvicorn gives."""
        super().__init__(*args, **options)
        self._awaited: Literal["start", "head", "body"] | None = "start"
        # Bytes of the head: as they came, and as they were understood.
        self._came = self._understood = 0
        self._is_too_large = False
        self._received = self._received_before = 0
        self._timer: asyncio.TimerHandle | None = None
        self._reading: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, unless there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self.most_connections:
            log.warning("A connection was refused: there are too many", connections=self.most_connections)
            self._refuse(503)
        else:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget a connection."""
        self._rest()
        self._stop_reading()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read what has come."""
        self._received += len(data)
        self._came += len(data)
        super().data_received(data)
        if self._is_left_alone():
            # An empty line after an answer: Uvicorn takes it for a request, and no longer looks at the time.
            self._awaited = "start"
            self._came = len(data)
            self._wait()
        if self._awaited in ("start", "head") and self._came > MOST_HEADERS:
            self._refuse(431)

    def pause_writing(self) -> None:
        """Wait until the client has read of what it is sent."""
        super().pause_writing()
        self._wait_for_reader()

    def resume_writing(self) -> None:
        """Go on: it has."""
        self._stop_reading()
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Refuse what cannot be read."""
        if self._is_too_large:
            self._refuse(431)
        else:
            super().send_400_response(msg)

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over."""
        self._rest()
        self._stop_reading()
        super().handle_websocket_upgrade()

    def on_message_begin(self) -> None:
        """Begin to read a request."""
        super().on_message_begin()
        self._awaited = "head"
        self._came = self._understood = 0
        self._wait()

    def on_url(self, url: bytes) -> None:
        """Read a part of the path."""
        self._understand(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Read a header."""
        self._understand(len(name) + len(value) + 4)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Start to answer."""
        self._awaited = "body"
        self._received_before = self._received
        self._wait()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """End the reading of a request."""
        self._awaited = None
        self._rest()
        super().on_message_complete()

    def _understand(self, size: int) -> None:
        self._understood += size
        if self._understood > MOST_HEADERS:
            self._is_too_large = True
            # The parser stops, and Uvicorn sends its 400: see above.
            raise ValueError("The headers are too large")

    def _wait(self) -> None:
        self._rest()
        self._timer = self.loop.call_later(HEADERS_PATIENCE, self._look)

    def _rest(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _is_left_alone(self) -> bool:
        """Whether nothing is read or answered, and no timer ends that."""
        done = self._cycle is None or self._cycle.response_complete
        idle = self._awaited is None and done and self.timeout_keep_alive_task is None
        # Who speaks another protocol by now is not among them.
        return idle and self in self.connections and not self.transport.is_closing()

    def _wait_for_reader(self) -> None:
        self._stop_reading()
        unread = self.transport.get_write_buffer_size()
        self._reading = self.loop.call_later(UNREAD, self._look_at_reader, unread)

    def _stop_reading(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def _look_at_reader(self, unread: int) -> None:
        if unread - self.transport.get_write_buffer_size() >= LEAST_READ:
            self._wait_for_reader()
        else:
            self.transport.abort()

    @property
    def _cycle(self) -> RequestResponseCycle | None:
        """The request that came last: there is none before the first, whatever Uvicorn says of its type."""
        return cast("RequestResponseCycle | None", self.cycle)

    def _look(self) -> None:
        came, self._received_before = self._received - self._received_before, self._received
        # Who does not read the body is then the app, not who sends it.
        if self._awaited == "body" and (self.flow.read_paused or came >= LEAST_BODY):
            self._wait()
        elif self._awaited is not None:
            self._refuse(408)

    def _refuse(self, status: int) -> None:
        self._rest()
        cycle = self._cycle
        answers = cycle is not None and cycle.response_started and not cycle.response_complete
        is_answered = cycle is not None and cycle.response_complete and self._awaited == "body"
        # Who has asked for nothing is told nothing: a client would take it for the answer to what it asks next.
        is_unasked = status == 408 and self._awaited == "start"
        if not (answers or is_answered or is_unasked or self.transport.is_closing()):
            reason = REASONS[status]
            body = f'{{"detail":"{reason}"}}'
            head = f"HTTP/1.1 {status} {reason}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
            self.transport.write(f"{head}connection: close\r\n\r\n{body}".encode())
        self.transport.close()


def bounded(most_connections: int) -> type[BoundedHttp]:
    """Build the protocol of a server that takes so many connections."""
    return type("Bounded", (BoundedHttp,), {"most_connections": most_connections})
