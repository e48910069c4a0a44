"""When a failed turn is tried again, and how long to wait before."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass

from codeforge_ls.llm.failures import FailureKind
from codeforge_ls.model.llm import TurnFailed

# One more try tells whether these were an accident; a third would only cost time and money.
_ONCE = frozenset({FailureKind.TIMEOUT, FailureKind.EMPTY, FailureKind.WORKER})
_random = random.SystemRandom()


@dataclass(frozen=True)
class RetryPolicy:
    """At most ``retries`` further attempts of one turn; waits in seconds.

    The wait is full jitter over ``base * 2**n`` up to ``cap`` (Brooker, "Exponential backoff and jitter",
    2015), or what the provider asks for if that is longer; more than ``patience`` is not waited for.
    """

    retries: int = 3
    base: float = 0.5
    cap: float = 30.0
    patience: float = 120.0

    def delay(self, failure: TurnFailed, seen: Counter[str], remaining: float) -> float | None:
        """Seconds to wait before the next attempt, or None to give up.

        ``seen`` counts the failures of this turn by kind, this one included; ``remaining`` is what is left of
        the turn's total deadline.
        """
        limit = min(1, self.retries) if failure.kind in _ONCE else self.retries
        if not failure.retryable or seen[failure.kind] > limit or seen.total() > self.retries:
            return None
        asked = failure.retry_after or 0.0
        delay = max(asked, _random.uniform(0, min(self.cap, self.base * 2 ** (seen.total() - 1))))
        return None if asked > self.patience or delay >= remaining else delay
