"""Tokens and money of one call, out of whatever the provider reported."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from codeforge_ls.model.base import JsonObject, JsonValue
from codeforge_ls.model.llm import Usage

# (tokens_in, tokens_out, cached_tokens) -> USD, or None when the price table does not know the model.
Price = Callable[[int, int, int], float | None]

MAX_TOKENS = 1 << 40  # a count beyond this is a provider's mistake, not a bill


def meter(reported: JsonValue, *, by_provider: bool, price: Price) -> Usage:
    """The usage of one call. Odd numbers (negative, not whole) become 0 and make the source ``unknown``.

    The cost is what the provider reported (``usage.cost``, a number or ``{total_cost}``) if above zero,
    else the price table's; zero is never believed, because that is what an unpriced model looks like.
    """
    usage = reported if isinstance(reported, dict) else {}
    details = usage.get("prompt_tokens_details")
    cached_raw = details.get("cached_tokens") if isinstance(details, dict) else None
    tokens_in, tokens_out = _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))
    cached = _count(cached_raw if cached_raw is not None else usage.get("cache_read_input_tokens", 0))
    sound = usage and None not in (tokens_in, tokens_out, cached)
    source: Literal["provider", "estimated", "unknown"] = "unknown"
    if sound and (tokens_in or tokens_out):
        source = "provider" if by_provider else "estimated"
    counts = (tokens_in or 0, tokens_out or 0, min(cached or 0, tokens_in or 0))
    cost = _money(usage.get("cost"))
    cost_source: Literal["usage", "computed", "unknown"] = "usage"
    if cost is None and source != "unknown":
        cost, cost_source = _money(price(*counts)), "computed"
    return Usage(
        tokens_in=counts[0],
        tokens_out=counts[1],
        cached_tokens=counts[2],
        source=source,
        cost_nano_usd=cost,
        cost_source="unknown" if cost is None else cost_source,
    )


def _count(value: JsonValue) -> int | None:
    """A token count, or None if it is not one."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < MAX_TOKENS:
        return None
    return int(value)


def _money(value: JsonValue) -> int | None:
    """USD as whole nano-dollars, if it is an amount above zero."""
    amount: JsonObject | JsonValue = value.get("total_cost") if isinstance(value, dict) else value
    if isinstance(amount, bool) or not isinstance(amount, int | float) or not 0 < amount < 1e6:
        return None
    return round(amount * 1_000_000_000)
