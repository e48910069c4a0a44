"""What ``test_unprivileged`` runs as nobody: each backend with its limits, and a layer; prints what came of it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

from codeforge_ls.config import SandboxSettings
from codeforge_ls.model.limits import ExecMode, ResourceLimits
from codeforge_ls.sandbox import CommandSpec, Place, probe
from codeforge_ls.sandbox.layer import Layer

LIMITS = ResourceLimits(memory_mb=300, pids_limit=40, output_mb=2)
COMMANDS = {
    "protected": "id -u; echo x > lib/n; cat .env; touch .git/hooks/x; touch /etc/x",
    "memory": "/usr/bin/python3 -c 'x = bytearray(900 << 20); print(len(x))'",
    "processes": "for i in $(seq 100); do sleep 3 & done; wait",
    "output": "yes",
}


async def main(base: Path) -> dict[str, object]:
    root = base / "ws"
    (root / "lib").mkdir(parents=True)
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    (root / "old").write_text("old")
    (root / ".env").write_text("SECRET")
    said: dict[str, object] = {}
    for backend in ("bubblewrap", "landlock"):
        sandbox = await probe(SandboxSettings(backend=backend), Place(base / "state"))
        for name, command in COMMANDS.items():
            spec = CommandSpec(command, root, root, 30, masked=(root / ".env",), limits=LIMITS)
            result = await sandbox.run(spec)
            said[f"{backend} {name}"] = [result.exit_code, result.output[-300:], result.limit]
        said[f"{backend} holds"] = sandbox.holds_limits
        if backend == "bubblewrap":
            layer = Layer.make(base / "state/layers")
            command = "echo new > lib/z; rm old; mkdir deep; mv lib deep/"
            spec = CommandSpec(command, root, root, 30, mode=ExecMode.HYBRID, layer=layer)
            said["layer"] = [
                (await sandbox.run(spec)).exit_code,
                *(f"{c.kind} {c.path}" for c in layer.changes(root)),
            ]
            layer.remove()
            said["left"] = sorted(path.name for path in (*(base / "state/layers").iterdir(), *root.iterdir()))
    return said


print(json.dumps(asyncio.run(main(Path(sys.argv[1])))))
