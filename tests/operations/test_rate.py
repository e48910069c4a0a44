"""The bucket itself, by a clock of the test: what the real doors are too slow, or too many, to show."""

from __future__ import annotations

import pytest

from codeforge_ls.config import RateLimitSettings
from codeforge_ls.model.errors import LimitReached
from codeforge_ls.operations.rate import CHANGE, LOOK, MAX_CLIENTS, RateLimit


class Clock:
    """Seconds that the test sets."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.limits = RateLimitSettings(per_second=10, burst=100)
        self.rate = RateLimit(lambda: self.limits, lambda: self.now)

    def taken(self, client: str, cost: float, most: int = 10_000) -> int:
        """How many calls in a row were not refused."""
        for number in range(most):
            try:
                self.rate.take(client, cost)
            except LimitReached:
                return number
        return most


def test_burst_then_rate_and_waiting_as_told_is_enough() -> None:
    clock = Clock()
    assert clock.taken("mcp:a", CHANGE) == 100
    with pytest.raises(LimitReached) as refused:
        clock.rate.take("mcp:a", CHANGE)
    assert refused.value.data == {"limit": "rate", "retryAfter": 0.1}
    clock.now += 0.1
    assert clock.taken("mcp:a", CHANGE) == 1
    clock.now += 7
    assert clock.taken("mcp:a", LOOK) in (699, 700)  # sums of 0.1 are not exact
    clock.now += 3600
    assert clock.taken("mcp:a", CHANGE) == 100
    for _ in range(500):  # a hundred searches a second, for five seconds, from an empty bucket
        clock.now += 0.0101
        clock.rate.take("mcp:a", LOOK)
    assert clock.taken("editor:b", CHANGE) == 100
    assert clock.rate.report()["refused"] == 6


def test_new_settings_hold_at_once() -> None:
    clock = Clock()
    assert clock.taken("cli:terminal", CHANGE, 50) == 50
    clock.limits = RateLimitSettings(per_second=1, burst=5)
    assert clock.taken("cli:terminal", CHANGE) == 5
    clock.now += 2.5
    assert clock.taken("cli:terminal", CHANGE) == 2
    clock.limits = RateLimitSettings(per_second=0)
    assert clock.taken("cli:terminal", CHANGE, 5000) == 5000


def test_full_buckets_are_forgotten_and_invented_names_share_one() -> None:
    clock = Clock()
    for number in range(MAX_CLIENTS):
        assert clock.taken(f"mcp:{number}", CHANGE) == 100
    assert clock.taken("mcp:one-more", CHANGE) == 100
    assert clock.taken("mcp:yet-another", CHANGE) == 0
    assert clock.rate.report()["clients"] == MAX_CLIENTS + 1
    clock.now += 5
    assert clock.taken("mcp:3", CHANGE) == 50  # half full: not forgotten
    clock.now += 5
    assert clock.rate.report()["clients"] == 1
    assert clock.taken("mcp:yet-another", CHANGE) == 100
