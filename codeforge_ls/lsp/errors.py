"""Errors on the wire: what each exception becomes in a JSON-RPC reply. Never a traceback."""

from __future__ import annotations

import logging

from cattrs import transform_error
from pygls.exceptions import JsonRpcException

from codeforge_ls.logs import request_id
from codeforge_ls.model.base import JsonObject
from codeforge_ls.model.errors import CodeForgeError, InvalidInput

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
NOT_INITIALIZED = -32002
CANCELLED = -32800
MAX_TEXT = 500  # characters of a reason that may quote the client's own input

log = logging.getLogger(__name__)


class Refusal(Exception):
    """A reply with this code and sentence."""

    def __init__(self, code: int, message: str, data: JsonObject | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.data = code, message, data


def error_object(error: BaseException, method: str) -> JsonObject:
    """The ``error`` member of a reply. Errors that nobody foresaw are logged whole and named by request id."""
    if isinstance(error, CodeForgeError):
        return {"code": error.rpc_code, "message": error.text, "data": error.as_json()}
    if isinstance(error, Refusal):
        found: JsonObject = {"code": error.code, "message": error.message}
        # Wrong parameters of a command have the same stable code as wrong arguments of its operation.
        stable: JsonObject = {"code": InvalidInput.code} if error.code == INVALID_PARAMS else {}
        data = {**stable, **(error.data or {})}
        return {**found, "data": data} if data else found
    if isinstance(error, JsonRpcException):
        return {"code": error.code, "message": error.message[:MAX_TEXT]}
    log.error("request %s failed", method, exc_info=error)
    return {
        "code": INTERNAL_ERROR,
        "message": f"Internal error in {method[:100]}. `codeforge logs errors` shows it.",
        "data": {"code": "internal", "request_id": request_id.get()},
    }


def invalid_params(method: str, error: Exception) -> Refusal:
    """What did not fit the method's parameters, in a sentence."""
    try:
        reasons = "; ".join(transform_error(error)[:3])
    except Exception:  # noqa: BLE001 - only the wording is lost
        reasons = type(error).__name__
    return Refusal(INVALID_PARAMS, f"Invalid params for {method[:100]}: {reasons}"[:MAX_TEXT])
