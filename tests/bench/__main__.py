"""``python -m tests.bench [NAME...]``: every ``*_bench.py`` in one table. Figures only; nothing fails on them."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

from tests.bench.table import head, shown
from tests.soak.report import machine

FOLDER = Path(__file__).resolve().parent


def main() -> int:
    """Run the benches whose names hold one of the words given, or all. 1 when one of them broke."""
    words, broken = sys.argv[1:], 0
    print("; ".join(f"{name} {value}" for name, value in machine().items()), flush=True)
    print(head(), flush=True)
    apart: list[str] = []
    for path in sorted(FOLDER.glob("*_bench.py")):
        if words and not any(word in path.stem for word in words):
            continue
        module = f"tests.bench.{path.stem}"
        if "def rows(" not in path.read_text(encoding="utf-8"):
            apart.append(module)
            continue
        try:
            print(shown(importlib.import_module(module).rows()), flush=True)
        except Exception as error:
            print(f"{path.stem} broke: {error!r}", flush=True)
            broken = 1
    for module in apart:
        print(f"\n{module}", flush=True)
        broken |= subprocess.run([sys.executable, "-m", module], check=False).returncode != 0
    return broken


if __name__ == "__main__":
    sys.exit(main())
