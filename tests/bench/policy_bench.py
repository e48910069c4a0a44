"""One decision of the policy: legal commands, attacks, long lines and paths; one layer, and all layers there can be."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from codeforge_ls.actions.judge import Readable
from codeforge_ls.model.policy import PolicyLayer, ToolCall
from codeforge_ls.policy.evaluate import evaluate
from codeforge_ls.policy.library import PolicyLibrary
from codeforge_ls.policy.masking import Masks
from tests.bench.table import Row, ms
from tests.soak.ground import Ground

CASES = Path(__file__).resolve().parents[1] / "policy"
PROFILE = "headless-safe-sandbox"
ROUNDS = 20


def rows() -> Iterator[Row]:
    """The figures; processor time of the thread, since a decision waits for nothing."""
    ground = Ground("bench")
    try:
        one = PolicyLibrary(ground.root, None).get(PROFILE)
        for name, calls in _calls().items():
            yield _row(name, calls, one, ground.root)
        for name, calls in _calls().items():
            yield _row(f"{name}, four layers with 130 rules", calls, _all_layers(ground), ground.root)
        yield _map_row(ground)
        yield from _mask_rows(ground)
    finally:
        ground.close()


def _row(name: str, calls: Sequence[ToolCall], layers: Sequence[PolicyLayer], root: Path) -> Row:
    seconds = []
    for call in list(calls) * ROUNDS:
        began = time.thread_time()
        evaluate(layers, call, root)
        seconds.append(time.thread_time() - began)
    return Row(f"policy: {name}", ms(seconds, 0.99), "p99 1 ms CPU")


def _map_row(ground: Ground) -> Row:
    """What one map asks: whether each of 48 files may be shown."""
    layers = _all_layers(ground)
    paths = [f"src/pkg{n % 8}/module{n}.py" for n in range(48)]
    seconds = []
    for _ in range(200):
        began = time.thread_time()
        readable = Readable(ground.root, layers)
        shown = [path for path in paths if readable(path)]
        seconds.append(time.thread_time() - began)
    assert shown == paths
    return Row("policy: 48 files of one map, four layers with 130 rules", ms(seconds, 0.99))


def _mask_rows(ground: Ground) -> Iterator[Row]:
    """What is looked for before each command: a first look at 13,500 files in 2,700 folders, and the later ones."""
    for n in range(2700):
        folder = ground.root / "tree" / f"part{n % 30}" / f"group{n % 300}" / f"pkg{n}"
        folder.mkdir(parents=True)
        for number in range(5):
            (folder / f"module{number}.py").touch()
    time.sleep(3)  # a folder that changed a moment ago is read each time
    layers, masks = _all_layers(ground), Masks(ground.root)
    seconds = []
    for _ in range(20):
        began = time.thread_time()
        masks.shielded(layers)
        seconds.append(time.thread_time() - began)
    yield Row("policy: what a command must not see, 13,500 files, first look", ms(seconds[:1]))
    yield Row("policy: the same before each later command", ms(seconds[1:]), "20 ms CPU")


def _calls() -> dict[str, list[ToolCall]]:
    legal = json.loads((CASES / "legitimate.json").read_text(encoding="utf-8"))[PROFILE]
    lines = (CASES / "attacks.jsonl").read_text(encoding="utf-8").splitlines()
    attacks = [json.loads(line)["command"] for line in lines]
    usual = [command for command in attacks if len(command) < 1000]
    return {
        f"{len(legal)} legal commands": [ToolCall(tool="Bash", command=command) for command in legal],
        f"{len(usual)} attacks": [ToolCall(tool="Bash", command=command) for command in usual],
        "edits of paths": [ToolCall(tool="Edit", path=f"src/pkg{n}/module.py") for n in range(50)],
        "reads of paths": [ToolCall(tool="Read", path=f"src/pkg{n}/module.py") for n in range(50)],
    }


def _all_layers(ground: Ground) -> list[PolicyLayer]:
    """The preset, a project's file, a hundred rules that were allowed always, and the administrator's."""
    places = [ground.root / ".codeforge" / "policies", ground.base / "own", ground.base / "etc"]
    for place in places:
        place.mkdir(parents=True, exist_ok=True)
    rules = "\n".join(
        f"  - {{specifier: {{tool: Edit}}, decision: deny, path_allow: ['vendor/{n}/**', '**/gen{n}.py']}}"
        for n in range(10)
    )
    always = "\n".join(
        f"  - {{specifier: {{tool: Bash}}, decision: allow, command_exact: ['make target{n}']}}\n"
        f"  - {{specifier: {{tool: Edit}}, decision: allow, path_allow: ['src/{n}.py']}}"
        for n in range(50)
    )
    (places[0] / "p.yaml").write_text(f"name: {PROFILE}\nmode: delegate\nrules:\n{rules}\n")
    (places[1] / "policy.yaml").write_text(f"name: here\nrules:\n{always}\n")
    (places[2] / "managed.yaml").write_text(f"name: managed\nmode: delegate\nrules:\n{rules}\n")
    library = PolicyLibrary(ground.root, None, own_dir=places[1], managed_dir=places[2])
    return library.get(PROFILE)
