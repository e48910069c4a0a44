"""One table of figures: what was measured, its bar, and what stands beside it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """A figure. ``bar`` is what was promised, ``beside`` the same work done by something known, with the ratio."""

    name: str
    figure: str
    bar: str = ""
    beside: str = ""


WIDTHS = (62, 34, 22)


def head() -> str:
    """The first line of the table."""
    return _line("what", "figure", "bar", "beside")


def shown(rows: Iterable[Row]) -> str:
    """The lines of these rows."""
    return "\n".join(_line(row.name, row.figure, row.bar, row.beside) for row in rows)


def _line(*cells: str) -> str:
    padded = [cell.ljust(width) for cell, width in zip(cells, WIDTHS, strict=False)]
    return " ".join([*padded, *cells[len(WIDTHS) :]]).rstrip()


def at(share: float, seconds: Sequence[float]) -> float:
    """The quantile of measured times."""
    ordered = sorted(seconds)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def ms(seconds: Sequence[float], late: float = 0.95) -> str:
    """Median and a late quantile in milliseconds."""
    return f"p50 {at(0.5, seconds) * 1e3:.3g} ms, p{late * 100:g} {at(late, seconds) * 1e3:.3g} ms"


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """How many times the other's median ours is."""
    return f"ours is {at(0.5, ours) / max(at(0.5, theirs), 1e-9):.2f} x"


async def timed(times: int, call: Callable[[], Awaitable[object]]) -> list[float]:
    """Seconds of each of so many calls in a row."""
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        await call()
        seconds.append(time.perf_counter() - began)
    return seconds
