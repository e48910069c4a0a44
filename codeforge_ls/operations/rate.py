"""The rate limit: a bucket of tokens for each client, whatever connection it comes by."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from codeforge_ls.config import RateLimitSettings
from codeforge_ls.model.base import JsonObject
from codeforge_ls.model.errors import LimitReached

CHANGE, LOOK = 1.0, 0.1  # tokens of a call that changes something, and of one that only looks
MAX_CLIENTS = 64  # buckets at once; names are claimed, so more of them share the last one
OTHERS = "others"


@dataclass
class Bucket:
    """The tokens of one client: ``rate`` come a second, ``burst`` are the most it holds, ``remaining`` are left.

    ``at`` is when it was last filled, in monotonic seconds.
    """

    rate: float
    burst: float
    remaining: float
    at: float

    def refill(self, now: float, rate: float, burst: float) -> None:
        """Bring it up to now, under the limits that hold now."""
        self.remaining = min(burst, self.remaining + max(0.0, now - self.at) * self.rate)
        self.rate, self.burst, self.at = rate, burst, now

    @property
    def reset(self) -> float:
        """Seconds until it is full again."""
        return (self.burst - self.remaining) / self.rate

    def seconds_until(self, cost: float) -> float:
        """Seconds until so many tokens are there; 0 when they are."""
        return max(0.0, (cost - self.remaining) / self.rate)


class RateLimit:
    """Who may call now. ``limits`` are asked anew for each call: they can be reloaded."""

    def __init__(
        self, limits: Callable[[], RateLimitSettings], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limits, self._clock = limits, clock
        self._buckets: dict[str, Bucket] = {}
        self._refused = 0

    def take(self, client: str, cost: float) -> None:
        """Take the tokens of one call. Raises ``LimitReached`` with ``data.retryAfter`` in seconds."""
        limits = self._limits()
        if limits.per_second == 0:
            return
        bucket = self._bucket(client, limits)
        if (wait := bucket.seconds_until(cost)) == 0:
            bucket.remaining -= cost
            return
        self._refused += 1
        wait = math.ceil(wait * 1000) / 1000
        raise LimitReached(
            f"Too many calls: {client} may make {limits.per_second:g} a second, and {limits.burst} at once.",
            hint=f"Try again in {wait:g} s. A call that only looks counts a tenth; see rate_limit in the settings.",
            data={"limit": "rate", "retryAfter": wait},
        )

    def report(self) -> JsonObject:
        """For ``health``: the limits, how many calls were refused, and of how many clients the bucket is not full."""
        limits = self._limits()
        self._evict(self._clock())
        return {
            "per_second": limits.per_second,
            "burst": limits.burst,
            "refused": self._refused,
            "clients": len(self._buckets),
        }

    def _bucket(self, client: str, limits: RateLimitSettings) -> Bucket:
        now = self._clock()
        bucket = self._buckets.get(client)
        if bucket is None:
            self._evict(now)  # one that is full again says nothing that a new one would not
            key = client if len(self._buckets) < MAX_CLIENTS else OTHERS
            full = Bucket(limits.per_second, limits.burst, limits.burst, now)
            bucket = self._buckets.setdefault(key, full)
        bucket.refill(now, limits.per_second, limits.burst)
        return bucket

    def _evict(self, now: float) -> None:
        self._buckets = {
            client: bucket for client, bucket in self._buckets.items() if now - bucket.at < bucket.reset
        }
