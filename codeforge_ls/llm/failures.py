"""What went wrong with a model call, in one word that decides what happens next."""

from __future__ import annotations

import email.utils
import re
import time
from collections.abc import Mapping
from enum import StrEnum

from codeforge_ls import redaction
from codeforge_ls.model.llm import TurnFailed

MESSAGE_LIMIT = 600  # characters; providers put whole HTML pages into their errors


class FailureKind(StrEnum):
    """The classes of failure a caller can tell apart; the words of ``TurnFailed.kind``."""

    AUTH = "auth"
    QUOTA = "quota"
    RATE_LIMIT = "rate_limit"
    CONTEXT = "context"
    REFUSED = "refused"
    TIMEOUT = "timeout"
    NETWORK = "network"
    SERVER = "server"
    INCOMPLETE = "incomplete"
    EMPTY = "empty"
    BAD_REQUEST = "bad_request"
    NOT_FOUND = "not_found"
    CONFIGURATION = "configuration"
    WORKER = "worker"
    CIRCUIT_OPEN = "circuit_open"


RETRYABLE = frozenset(
    {
        FailureKind.RATE_LIMIT,
        FailureKind.TIMEOUT,
        FailureKind.NETWORK,
        FailureKind.SERVER,
        FailureKind.INCOMPLETE,
        FailureKind.EMPTY,
        FailureKind.WORKER,
    }
)

# Failures that say the service itself is ill. An answer such as 401 or 429 shows that it is alive.
ILL = frozenset({FailureKind.NETWORK, FailureKind.SERVER, FailureKind.TIMEOUT, FailureKind.INCOMPLETE})

# Read before the status: providers, gateways and litellm disagree about statuses (an exhausted quota is a
# 429, a wrong key at a gateway without a database a 400, a missing Python module a 500).
_BY_TEXT: tuple[tuple[FailureKind, re.Pattern[str]], ...] = tuple(
    (kind, re.compile(pattern, re.IGNORECASE))
    for kind, pattern in (
        (FailureKind.CONFIGURATION, r"no module named|llm provider not provided|unsupportedparams"),
        (FailureKind.QUOTA, r"insufficient_quota|insufficient (credits|balance|funds)|billing (hard )?limit"),
        (
            FailureKind.AUTH,
            r"api_key client option must be set|missing credentials|missing .{,20}api key"
            r"|invalid_api_key|no connected db",
        ),
        (
            FailureKind.CONTEXT,
            r"context_length_exceeded|maximum context length|context ?window"
            r"|prompt is too long|exceeds? the .{,30}context",
        ),
        (FailureKind.REFUSED, r"content_filter|content management policy|content_policy_violation"),
        (
            FailureKind.NETWORK,
            r"connection error|cannot connect|connect call failed|connection (refused|reset)",
        ),
    )
)
# Google words a per-minute limit the same way, and then says when to come back.
_QUOTA_WITHOUT_RETURN = re.compile(r"exceeded your current quota", re.IGNORECASE)
_COMES_BACK = re.compile(r"RESOURCE_EXHAUSTED|retryDelay|retry in", re.IGNORECASE)

_BY_STATUS: Mapping[int, FailureKind] = {
    400: FailureKind.BAD_REQUEST,
    401: FailureKind.AUTH,
    402: FailureKind.QUOTA,
    403: FailureKind.AUTH,
    404: FailureKind.NOT_FOUND,
    408: FailureKind.TIMEOUT,
    413: FailureKind.CONTEXT,
    422: FailureKind.BAD_REQUEST,
    425: FailureKind.RATE_LIMIT,
    429: FailureKind.RATE_LIMIT,
}
_ADVICE: Mapping[FailureKind, str] = {
    FailureKind.AUTH: "Set the provider's key (such as OPENAI_API_KEY) in CodeForge's environment.",
    FailureKind.QUOTA: "The account has no quota left; nothing is retried.",
    FailureKind.NOT_FOUND: "Check the model's name and llm.api_base.",
    FailureKind.CONFIGURATION: "Write the model as provider/name, e.g. openai/gpt-4o-mini.",
}
_LAYERS = re.compile(r"^(?:litellm\.\w+: ?|\w*(?:Error|Timeout): ?|\w+Exception - )+")
_INNARDS = re.compile(r"\s*(?:Original exception:|Traceback \(most recent call last\))")


def failed(
    kind: FailureKind, message: str, *, status: int | None = None, retry_after: float | None = None
) -> TurnFailed:
    """A failure whose ``retryable`` follows from its kind."""
    text = f"{message} {_ADVICE.get(kind, '')}".strip()
    return TurnFailed(
        kind=kind, message=text, status=status, retryable=kind in RETRYABLE, retry_after=retry_after
    )


def classify(error: BaseException, environment: Mapping[str, str]) -> TurnFailed:
    """The failure behind an exception of litellm; secrets of ``environment`` are cut out of its text."""
    names = {base.__name__ for base in type(error).__mro__}
    status = getattr(error, "status_code", None)
    status = status if isinstance(status, int) else None
    raw = f"{error} {getattr(error, 'body', None) or ''}"
    wait = retry_after(_headers(error))
    kind = _kind(names, status, raw, wait)
    if kind in {FailureKind.NETWORK, FailureKind.INCOMPLETE} or "Timeout" in names:
        status = None  # litellm invents a 500 or 408 for what never was an answer
    redaction.know_environment(environment)
    message = redaction.scrub(_LAYERS.sub("", _INNARDS.split(str(error))[0]))
    return failed(kind, message[:MESSAGE_LIMIT] or type(error).__name__, status=status, retry_after=wait)


def _kind(names: set[str], status: int | None, text: str, wait: float | None) -> FailureKind:
    if "ContextWindowExceededError" in names:
        return FailureKind.CONTEXT
    for kind, pattern in _BY_TEXT:
        if pattern.search(text):
            return kind
    if _QUOTA_WITHOUT_RETURN.search(text) and wait is None and not _COMES_BACK.search(text):
        return FailureKind.QUOTA
    if "MidStreamFallbackError" in names:
        return FailureKind.INCOMPLETE
    if names & {"Timeout", "TimeoutError", "APITimeoutError"}:
        return FailureKind.TIMEOUT
    if status is not None:
        return _BY_STATUS.get(status) or (FailureKind.SERVER if status >= 500 else FailureKind.BAD_REQUEST)
    return FailureKind.NETWORK if names & {"APIConnectionError", "OSError"} else FailureKind.SERVER


def _headers(error: BaseException) -> dict[str, str]:
    found: dict[str, str] = {}
    response = getattr(error, "response", None)
    for headers in (getattr(response, "headers", None), getattr(error, "litellm_response_headers", None)):
        if isinstance(headers, Mapping):
            found.update({str(name).lower(): str(value) for name, value in headers.items()})
    return found


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds the provider asks to wait: ``retry-after-ms`` or ``retry-after`` (seconds or an HTTP date).

    A LiteLLM proxy passes the provider's header on with the prefix ``llm_provider-``.
    """
    for prefix in ("", "llm_provider-"):
        for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
            value = headers.get(prefix + name, "").strip()
            if re.fullmatch(r"\d{1,9}(\.\d+)?", value):
                return float(value) * unit
            if unit == 1.0 and (date := email.utils.parsedate_tz(value)):
                return max(0.0, email.utils.mktime_tz(date) - time.time())
    return None
