"""Limits of a run: steps, time, money and standing still. 0 means no limit; a limit triggers at >=."""

from __future__ import annotations

import hashlib
from collections import deque
from dataclasses import dataclass, field

from codeforge_ls.model.policy import Termination
from codeforge_ls.model.runs import Run, RunStatus
from codeforge_ls.policy.library import effective_limits

NANO = 1_000_000_000
UNPRICED_TOKENS_PER_USD = 200_000  # without a price, a budget counts tokens as if 1M of them cost 5 USD


class RunEnded(Exception):
    """The run is over. Carries the status and the sentence to show."""

    def __init__(self, status: RunStatus, reason: str, output: str = "") -> None:
        super().__init__(reason)
        self.status, self.reason, self.output = status, reason, output


def limits_of(run: Run) -> Termination:
    """The tightest limits of all layers of its policy."""
    return effective_limits(run.layers)[0]


def check(run: Run, limits: Termination) -> None:
    """Raise ``RunEnded`` when a limit of steps or money is reached. Called before every model call."""
    if limits.max_steps and run.step_count >= limits.max_steps:
        raise RunEnded(RunStatus.FAILED, f"limit reached: {run.step_count} steps of {limits.max_steps}")
    spent = run.cost_nano_usd / NANO
    if limits.max_cost and spent >= limits.max_cost:
        raise RunEnded(RunStatus.FAILED, f"limit reached: ${spent:.4f} of ${limits.max_cost:g}")
    tokens = run.tokens_in + run.tokens_out
    if limits.max_cost and run.unpriced_calls and tokens >= limits.max_cost * UNPRICED_TOKENS_PER_USD:
        raise RunEnded(
            RunStatus.FAILED,
            f"limit reached: the model has no known price and {tokens:,} tokens stand for ${limits.max_cost:g}",
        )


@dataclass
class StallTracker:
    """Counts repetitions: the same tool, arguments and output again is no progress; anything new is.

    The threshold is that of the profile: at it the agent is warned once and the count starts anew; at it again
    the run ends.
    """

    threshold: int
    warned: bool = False
    _seen: deque[str] = field(default_factory=lambda: deque(maxlen=20))
    _repeated: int = 0

    def note(self, tool: str, arguments: str, output: str) -> bool:
        """Count one call. Returns True when the agent is to be warned; raises ``RunEnded`` the second time."""
        if not self.threshold:
            return False
        digest = hashlib.blake2b(
            "\0".join((tool, arguments, output)).encode(errors="replace"), digest_size=8
        ).hexdigest()
        self._repeated = self._repeated + 1 if digest in self._seen else 0
        self._seen.append(digest)
        if self._repeated < self.threshold:
            return False
        if self.warned:
            raise RunEnded(
                RunStatus.FAILED, "stall detected: the same calls with the same results again and again"
            )
        self.warned, self._repeated = True, 0
        self._seen.clear()
        return True
