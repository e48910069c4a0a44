"""The errors of the product. Each carries a sentence a person can act on; borders translate them once."""

from __future__ import annotations

from typing import ClassVar

from codeforge_ls.model.base import JsonObject


class CodeForgeError(Exception):
    """An error with a stable ``code`` (shown by every surface as ``data.code``) and a JSON-RPC number.

    ``message`` says what is wrong, ``hint`` what to do next, ``data`` holds facts a program may read.
    """

    code: ClassVar[str] = "internal"
    rpc_code: ClassVar[int] = -32603

    def __init__(self, message: str, *, hint: str = "", data: JsonObject | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.data: JsonObject = data or {}

    def as_json(self) -> JsonObject:
        """The wire form: ``{code, message, hint, data}``."""
        return {"code": self.code, "message": self.message, "hint": self.hint, "data": self.data}

    @property
    def text(self) -> str:
        """Message and hint as one paragraph, for terminals and models."""
        return f"{self.message} {self.hint}".strip()


class InvalidInput(CodeForgeError):
    """The request itself is wrong: unknown name, bad type, out of range. ``data.field`` names the place."""

    code = "invalid_input"
    rpc_code = -32602


class NotFound(CodeForgeError):
    """The named thing does not exist."""

    code = "not_found"
    rpc_code = -32004


class Conflict(CodeForgeError):
    """The world changed meanwhile, or the thing is in a state that forbids this."""

    code = "conflict"
    rpc_code = -32009


class Denied(CodeForgeError):
    """A policy, a person or the absence of a person refused it."""

    code = "denied"
    rpc_code = -32003


class Unavailable(CodeForgeError):
    """A part that is needed is not there or not ready: no model set, worker gave up, shutting down."""

    code = "unavailable"
    rpc_code = -32007


class LimitReached(CodeForgeError):
    """A limit of the profile, the size of an input or a deadline was reached."""

    code = "limit_reached"
    rpc_code = -32008


ERRORS: dict[str, type[CodeForgeError]] = {
    kind.code: kind
    for kind in (CodeForgeError, InvalidInput, NotFound, Conflict, Denied, Unavailable, LimitReached)
}


def error_from_json(raw: JsonObject) -> CodeForgeError:
    """The error that ``as_json`` wrote, rebuilt on the other side of a pipe."""
    kind = ERRORS.get(str(raw.get("code")), CodeForgeError)
    data = raw.get("data")
    return kind(
        str(raw.get("message", "unknown error")),
        hint=str(raw.get("hint", "")),
        data=data if isinstance(data, dict) else None,
    )
