"""Circuit breaker: a service that keeps failing is left alone for a while, then asked once."""

from __future__ import annotations

import time
from enum import StrEnum

from codeforge_ls.model.base import JsonObject

THRESHOLD = 5  # failures in a row that open the circuit
COOL_DOWN = 30.0  # seconds it stays open before one probe


class CircuitState(StrEnum):
    """Closed: calls pass. Open: none does. Half-open: one probe is allowed or under way."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class CircuitBreaker:
    """One service's breaker. Every ``admit`` that returned 0 is followed by exactly one ``record``."""

    def __init__(self, threshold: int = THRESHOLD, cool_down: float = COOL_DOWN) -> None:
        self.failures = 0
        self._threshold, self._cool_down = threshold, cool_down
        self._opened_at: float | None = None
        self._probing = False

    @property
    def state(self) -> CircuitState:
        """The state now; an open circuit becomes half-open by the clock alone."""
        if self._opened_at is None:
            return CircuitState.CLOSED
        return CircuitState.HALF_OPEN if self._left() <= 0 else CircuitState.OPEN

    def admit(self) -> float:
        """0 if the call may go ahead, else the seconds after which it is worth asking again."""
        if self._opened_at is None:
            return 0.0
        if self._left() > 0:
            return self._left()
        if self._probing:
            return 1.0  # the probe's answer decides; nobody else gets through until then
        self._probing = True
        return 0.0

    def record(self, healthy: bool | None) -> None:
        """What came of an admitted call: the service is well, is ill, or (None) nothing was learned.

        Calls let through before the circuit opened may still succeed; that is news too and closes it.
        """
        self._probing = False
        if healthy is None:
            return
        if healthy:
            self.failures, self._opened_at = 0, None
            return
        self.failures += 1
        if self.failures >= self._threshold:
            self._opened_at = time.monotonic()

    def as_json(self) -> JsonObject:
        """For ``health``: state, failures in a row, seconds until the probe."""
        return {"state": self.state, "failures": self.failures, "retry_in": round(max(0.0, self._left()), 1)}

    def _left(self) -> float:
        return 0.0 if self._opened_at is None else self._opened_at + self._cool_down - time.monotonic()
