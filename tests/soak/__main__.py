"""``python -m tests.soak --report FILE``: the long proofs. Exit code 1 when anything did not hold."""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

from tests.soak import checkpoint_kills, checkpoint_sizes, containers, endurance, fuzz, kills, merge_kills
from tests.soak.report import Part, markdown, write

PARTS = ("kills", "checkpoints", "containers", "fuzz", "endurance")


def main() -> int:
    """Run what was asked for, write the report, and say how to see it again."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--report", type=Path, required=True, help="Markdown file to write")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="see a run again")
    parser.add_argument("--slice", action="store_true", help="a short piece of every proof")
    parser.add_argument("--only", action="append", choices=PARTS, help="only this proof; may be repeated")
    parser.add_argument("--kills", type=int, help="kills of each kind (50; in a slice 2)")
    parser.add_argument("--cases", type=int, help="fuzz cases (100,000; in a slice 2,000)")
    parser.add_argument("--minutes", type=float, help="of endurance (20; in a slice 0.25)")
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    parts: list[Part] = []
    for part in proofs(given.seed, given.only or PARTS, given):
        print(f"{part.name}: {sum(part.counts.values())} cases, {part.seconds:.0f} s", flush=True)
        for failure in part.failures:
            print(f"  FAILED: {failure[:1500]!r}", flush=True)
        parts.append(part)
        write(given.report, markdown(parts, command=f"python -m tests.soak {' '.join(sys.argv[1:])}"))
    return 1 if any(part.failures for part in parts) else 0


def proofs(seed: int, names: list[str] | tuple[str, ...], given: argparse.Namespace) -> Iterator[Part]:
    """The parts, each when it is over."""
    short = given.slice
    if "kills" in names:
        rounds = given.kills or (2 if short else 50)
        limit = 65.0 if short else 4 * 3600.0
        yield _proved("kills", seed, lambda part: kills.prove(part, rounds=rounds, seconds=limit))
        yield _proved(
            "kills: merge", seed, lambda part: merge_kills.prove(part, rounds=rounds, seconds=limit)
        )
    if "containers" in names and not short:
        yield _proved("containers", seed, containers.prove)
    if "checkpoints" in names:
        rounds = given.kills or (3 if short else 50)
        limit = 90.0 if short else 3600.0
        yield _proved(
            "checkpoints", seed, lambda part: checkpoint_kills.prove(part, kills=rounds, seconds=limit)
        )
        if not short:
            yield _proved("checkpoints: sizes", seed, checkpoint_sizes.prove)
    if "fuzz" in names:
        yield from fuzz.prove(seed, given.cases or (2000 if short else 100_000))
    if "endurance" in names:
        minutes = given.minutes or (0.25 if short else 20)
        files = 400 if short else endurance.FILES
        yield _proved(
            "endurance",
            seed,
            lambda part: endurance.prove(part, seconds=minutes * 60, long=not short, files=files),
        )


def _proved(name: str, seed: int, prove: Callable[[Part], Awaitable[None]]) -> Part:
    part = Part(name, seed)

    async def run() -> None:
        await prove(part)

    try:
        asyncio.run(run())
    except Exception as error:
        part.fail(f"the proof itself broke: {error!r}")
    return part


if __name__ == "__main__":
    sys.exit(main())
