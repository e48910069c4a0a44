"""One decision of the policy: legal commands, attacks, and paths, against the strict preset."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

from codeforge_ls.model.policy import ToolCall
from codeforge_ls.policy.evaluate import evaluate
from codeforge_ls.policy.library import PolicyLibrary
from tests.bench.table import Row, ms
from tests.soak.ground import Ground

CASES = Path(__file__).resolve().parents[1] / "policy"
PROFILE = "headless-safe-sandbox"
ROUNDS = 20


def rows() -> Iterator[Row]:
    """The figures."""
    ground = Ground("bench")
    try:
        layers = PolicyLibrary(ground.root, None).get(PROFILE)
        legal = json.loads((CASES / "legitimate.json").read_text(encoding="utf-8"))[PROFILE]
        attacks = [
            json.loads(line)["command"]
            for line in (CASES / "attacks.jsonl").read_text(encoding="utf-8").splitlines()
        ]
        groups = {
            f"{len(legal)} legal commands": [ToolCall(tool="Bash", command=command) for command in legal],
            f"{len(attacks)} attacks": [ToolCall(tool="Bash", command=command) for command in attacks],
            "edits of paths": [ToolCall(tool="Edit", path=f"src/pkg{n}/module.py") for n in range(50)],
        }
        for name, calls in groups.items():
            seconds = []
            for call in calls * ROUNDS:
                began = time.perf_counter()
                evaluate(layers, call, ground.root)
                seconds.append(time.perf_counter() - began)
            yield Row(f"policy: {name}", ms(seconds, 0.99), "p99 1 ms")
    finally:
        ground.close()
