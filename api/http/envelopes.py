"""Commands of the protocol as they travel: what a client sends, and what it is answered."""

from dataclasses import dataclass
from typing import Any, Literal, cast

from durathread.api.http.bodies import read_json
from durathread.encode import loads
from durathread.errors import Invalid
from durathread.records import JsonObject

Code = Literal[
    "invalid_argument",
    "unknown_command",
    "unknown_error",
    "no_such_run",
    "no_such_subscription",
    "no_such_namespace",
    "no_such_interrupt",
    "no_such_checkpoint",
    "permission_denied",
    "not_supported",
]
# The largest id that JavaScript can count to.
MOST = 2**53 - 1


class Refused(Exception):
    """A command is not carried out."""

    def __init__(self, code: Code, message: str) -> None:
        """Say why."""
        super().__init__(message)
        self.code: Code = code


class Malformed(Refused):
    """What a client sent is no command."""

    def __init__(self, message: str, *, command_id: int | None = None) -> None:
        """Say why, and which command it would have been."""
        super().__init__("invalid_argument", message)
        self.command_id = command_id


@dataclass(frozen=True)
class Command:
    """What a client asks for."""

    command_id: int
    method: str
    params: JsonObject

    @classmethod
    async def read(cls, raw: bytes) -> "Command":
        """Read a command.

        Raises:
            Malformed: it is none.
        """
        try:
            found = await read_json(raw, small=loads)
        except Invalid as error:
            raise Malformed(str(error)) from error
        except ValueError as error:
            raise Malformed("Invalid JSON in the command") from error
        if not isinstance(found, dict):
            raise Malformed("Invalid command: must be an object with id, method and params")
        fields = cast(dict[str, Any], found)
        command_id, method, params = fields.get("id"), fields.get("method"), fields.get("params", {})
        if isinstance(command_id, bool) or not isinstance(command_id, int) or not 0 <= command_id <= MOST:
            raise Malformed("Invalid id: must be an integer, 0 or more")
        if not isinstance(method, str) or not method:
            raise Malformed("Invalid method: must be the name of a command", command_id=command_id)
        if not isinstance(params, dict):
            raise Malformed("Invalid params: must be an object", command_id=command_id)
        return cls(command_id, method, cast(JsonObject, params))


def succeeded(command_id: int, result: JsonObject, *, seq: int) -> JsonObject:
    """Answer a command that was carried out; events after `seq` may be its doing."""
    return {"type": "success", "id": command_id, "result": result, "meta": {"applied_through_seq": seq}}


def failed(command_id: int | None, error: Refused) -> JsonObject:
    """Answer a command that was not carried out."""
    return {"type": "error", "id": command_id, "error": error.code, "message": str(error)}
