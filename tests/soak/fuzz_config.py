"""Fuzz of configuration files: whatever they hold there are settings, and a workspace's file decides what it may."""

from __future__ import annotations

import os
import time

from codeforge_ls.config import load_settings
from codeforge_ls.config.settings import FIELDS, Mark
from tests.soak.ground import Ground
from tests.soak.hostile import Hostile
from tests.soak.report import Part

LOAD_SECONDS = 5.0
SECTIONS = sorted({field.section for field in FIELDS.values()})
LINES = (
    "x: &a [1, 2]", "y: *a", "!!python/object/apply:os.system ['touch pwned']", "- a", "? [1]", "---", "...",
    "%YAML 1.1", "<<: {a: 1}", "\tx: 1", "llm: {model: evil, api_base: 'http://127.0.0.1:1'}",
    "sandbox: {backend: none}", "x: |",
    "\0", "policy: {default: trusted-mount-autonomous}", "llm: null", "llm: 5", "1: 2", "'': ''",
    "index: []", "[" * 40,
)  # fmt: skip


def prove(part: Part, *, cases: int) -> None:
    """So many files in ``.codeforge/config.yaml``."""
    ground, hostile = Ground("conf"), Hostile(part.seed)
    file = ground.root / ".codeforge" / "config.yaml"
    file.parent.mkdir()
    environ = {name: value for name, value in ground.env.items() if not name.startswith("CODEFORGE")}
    slowest = 0.0
    with part.timed():
        old = dict(os.environ)
        os.environ.clear()
        os.environ.update(environ)
        try:
            sound = load_settings(ground.root).settings
            trusted = [path for path, field in FIELDS.items() if field.has(Mark.TRUSTED)]
            for number in range(cases):
                data = _file(hostile)
                file.write_bytes(data)
                began = time.monotonic()
                problem = _check(part, ground, sound.model_dump(mode="json"), trusted)
                slowest = max(slowest, time.monotonic() - began)
                if problem:
                    part.fail(f"case {number} (seed {part.seed}): {problem}: {data[:400]!r}")
        finally:
            os.environ.clear()
            os.environ.update(old)
            ground.close()
    part.facts["slowest load"] = f"{slowest * 1000:.0f} ms"
    if slowest > LOAD_SECONDS:
        part.fail(f"a file took {slowest:.1f} s (seed {part.seed})")


def _check(part: Part, ground: Ground, sound: dict[str, dict[str, object]], trusted: list[str]) -> str:
    try:
        loaded = load_settings(ground.root)
        values = loaded.settings.model_dump(mode="json")
    except Exception as error:
        part.count("raised")
        return f"raised {error!r}"
    part.count("with problems" if loaded.problems else "sound")
    for path in trusted:
        section, _, name = path.partition(".")
        if values[section][name] != sound[section][name]:
            return f"a workspace's file set {path} to {values[section][name]!r}"
    if values["policy"]["default"] not in ("", "plan-readonly", "editor-interactive"):
        return f"a workspace's file chose the profile {values['policy']['default']!r}"
    if any(not problem.message for problem in loaded.problems):
        return "a problem without words"
    return ""


def _file(hostile: Hostile) -> bytes:
    """A file after the model, with wrong values, odd lines, broken bytes."""
    rng = hostile.rng
    if rng.random() < 0.05:
        return rng.randbytes(rng.randint(0, 300))
    lines: list[str] = []
    for section in rng.sample(SECTIONS, rng.randint(0, 4)):
        lines.append(f"{section}:")
        fields = [field for field in FIELDS.values() if field.section == section]
        chosen = rng.sample(fields, rng.randint(0, len(fields)))
        lines.extend(f"  {field.name}: {_value(hostile)}" for field in chosen)
    for _ in range(rng.choice((0, 0, 1, 2))):
        lines.insert(rng.randint(0, len(lines)), rng.choice(LINES))
    data = "\n".join(lines).encode("utf-8", "surrogatepass")
    return hostile.broken(data) if rng.random() < 0.3 else data


def _value(hostile: Hostile) -> str:
    rng = hostile.rng
    if rng.random() < 0.5:
        return str(
            rng.choice(
                (0, 1, 5, 60, -1, 2.5, "true", "auto", "off", "none", "info", "~", "1e9", ".inf", ".nan")
            )
        )
    return repr(hostile.json(2))[:2000]
