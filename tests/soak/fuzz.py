"""All fuzz proofs together: how many cases each gets of the whole."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

from tests.soak import fuzz_config, fuzz_edits, fuzz_operations, fuzz_policy, fuzz_wire
from tests.soak.report import Part

LEGAL = Path(__file__).resolve().parents[1] / "policy" / "legitimate.json"
# The policy gets as many as all the others and a third more: one command in a thousand may be the one.
SHARES = {"wire": 0.25, "operations": 0.2, "policy": 1.0, "edits": 0.25, "configuration": 0.05}


def prove(seed: int, cases: int) -> Iterator[Part]:
    """Each part when it is over."""
    for name, share in SHARES.items():
        part, count = Part(f"fuzz: {name}", seed), int(cases * share)
        try:
            _run(name, part, count)
        except Exception as error:
            part.fail(f"the proof itself broke: {error!r}")
        yield part


def _run(name: str, part: Part, count: int) -> None:
    if name == "wire":
        asyncio.run(fuzz_wire.prove(part, lsp=count * 3 // 5, mcp=count * 2 // 5))
    elif name == "operations":
        asyncio.run(fuzz_operations.prove(part, cases=count))
    elif name == "policy":
        fuzz_policy.prove(part, cases=count, legal=LEGAL)
    elif name == "edits":
        fuzz_edits.prove(part, cases=count)
    else:
        fuzz_config.prove(part, cases=count)
