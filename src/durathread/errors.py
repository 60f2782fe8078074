"""The tree of expected failures, each with the HTTP status it is answered with.

Error (500)
├── BadRequest (400)
├── Unauthenticated (401)
├── Forbidden (403)
├── NotFound (404)
│   └── Gone
├── Conflict (409)
│   └── ThreadBusy
├── TooLarge (413)
├── Invalid (422)
├── TooMany (429)
├── Unavailable (503)
├── TimedOut (504)
├── Fenced              a write or a step came from an attempt that no longer owns its run
├── Unfinished          a run does not stand where LangGraph says that it has ended
├── ConfigError         langgraph.json, or a graph that it names, cannot be used
├── Unprepared          an engine is reached, but is not what this server needs
├── EngineError         an embedded engine, or a role of the server, cannot be started
├── PartEnded           a background part of a process has ended
├── LoopEnded           the thread has ended that ran users' code
└── NotStored           the database refuses what is to be stored; says why
"""


class Error(Exception):
    """An expected failure. `str()` of it is the `detail` that a client reads."""

    status: int = 500


class BadRequest(Error):
    """The request cannot be carried out as it is."""

    status = 400


class Unauthenticated(Error):
    """Nobody has said who sends the request."""

    status = 401


class Forbidden(Error):
    """Who sends the request may not do what it asks for."""

    status = 403


class NotFound(Error):
    """What the request names does not exist."""

    status = 404


class Gone(NotFound):
    """What a request has made that is repeated has been deleted since."""


class Conflict(Error):
    """What the request names is in a state that refuses it."""

    status = 409


class ThreadBusy(Conflict):
    """A run of the thread is in flight."""


class TooLarge(Error):
    """The request body is larger than the server takes."""

    status = 413


class Invalid(Error):
    """The request does not have the right form."""

    status = 422


class TooMany(Error):
    """The caller has as many of them as one may have."""

    status = 429

    def __init__(self, detail: str, *, retry_after: int) -> None:
        """Say why, and after how many seconds to try again."""
        super().__init__(detail)
        self.retry_after = retry_after


class Unavailable(Error):
    """An engine that the request needs cannot be reached."""

    status = 503


class TimedOut(Error):
    """Users' code takes longer than a request waits for it."""

    status = 504


class Fenced(Error):
    """A write or a step came from an attempt that no longer owns its run."""

    status = 409


class Unfinished(Error):
    """A run does not stand where LangGraph says that it has ended, or a task of it was cancelled and nobody else was."""


class ConfigError(Error):
    """langgraph.json, or a graph that it names, cannot be used."""


class Unprepared(Error):
    """An engine is reached, but is not what this server needs: somebody must act. Says who, and how."""


class EngineError(Error):
    """An embedded engine, or a role of the server, cannot be started."""


class PartEnded(Error):
    """A background part of this process has ended."""

    status = 503


class LoopEnded(Error):
    """The thread has ended that ran users' code."""


class NotStored(Error):
    """The database refuses what is to be stored."""

    status = 422
