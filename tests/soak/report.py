"""What a proof found: cases, durations, failures and how to see them again; written as Markdown."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from codeforge_ls import __version__

SHOWN = 20  # failures of one part that are printed in full


@dataclass
class Part:
    """One proof. ``counts`` are its cases by kind, ``facts`` what was measured, ``failures`` what must not be."""

    name: str
    seed: int
    counts: dict[str, int] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def count(self, kind: str, number: int = 1) -> None:
        """One more case of a kind."""
        self.counts[kind] = self.counts.get(kind, 0) + number

    def fail(self, text: str) -> None:
        """Note a failure."""
        self.failures.append(text)
        self.progress(f"FAILED: {text[:500]}")

    def progress(self, text: str) -> None:
        """Say how far it is."""
        print(f"{time.strftime('%H:%M:%S')} {self.name}: {text}", flush=True)

    @contextmanager
    def timed(self) -> Iterator[Part]:
        """Measure how long the part takes; an error of the proof itself is a failure of it."""
        began = time.monotonic()
        try:
            yield self
        finally:
            self.seconds += time.monotonic() - began


def machine() -> dict[str, str]:
    """Where the figures come from."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    git = subprocess.run(["git", "--version"], capture_output=True, text=True, check=False, timeout=10).stdout
    return {
        "CodeForge": __version__,
        "Python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cores": str(os.cpu_count()),
        "memory": f"{memory:.1f} GiB",
        "load": " ".join(f"{load:.1f}" for load in os.getloadavg()),
        "git": git.strip().removeprefix("git version "),
    }


def markdown(parts: Sequence[Part], *, command: str) -> str:
    """The whole report."""
    failed = sum(len(part.failures) for part in parts)
    lines = ["# Soak report", "", f"{'FAILED: ' + str(failed) if failed else 'All held.'}", ""]
    lines += [f"- command: `{command}`", f"- date: {time.strftime('%Y-%m-%d %H:%M:%S %z')}"]
    lines += [f"- {name}: {value}" for name, value in machine().items()]
    lines += ["", "| part | cases | failures | seconds | seed |", "| --- | ---: | ---: | ---: | ---: |"]
    for part in parts:
        total = sum(part.counts.values())
        lines.append(f"| {part.name} | {total} | {len(part.failures)} | {part.seconds:.0f} | {part.seed} |")
    for part in parts:
        lines += ["", f"## {part.name}", ""]
        again = f"python -m tests.soak --report FILE --only {part.name.split(':')[0]} --seed {part.seed}"
        lines += [f"Again: `{again}` with the sizes of the command above.", ""]
        if part.counts:
            lines.append("Cases: " + ", ".join(f"{kind} {number}" for kind, number in part.counts.items()))
        lines += [f"- {name}: {value}" for name, value in part.facts.items()]
        lines += (
            ["", *(f"- FAILED: {_flat(text)}" for text in part.failures[:SHOWN])] if part.failures else []
        )
        if len(part.failures) > SHOWN:
            lines.append(f"- and {len(part.failures) - SHOWN} more")
    return "\n".join(lines) + "\n"


def write(path: Path, text: str) -> None:
    """Write the report; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", errors="backslashreplace")


def _flat(text: str) -> str:
    return " / ".join(text.splitlines())[:1500]
