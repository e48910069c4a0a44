"""Operations on the service itself: health, configuration, stop."""

from __future__ import annotations

import asyncio
import os
import resource
import sys
import time

from codeforge_ls import __version__, logs
from codeforge_ls.model.base import Frozen, JsonObject
from codeforge_ls.model.errors import CodeForgeError
from codeforge_ls.operations.operation import Call, Nothing, Operation


class Depth(Frozen):
    """``deep`` also asks the database, git and the workers, each with its latency."""

    deep: bool = False


async def health(call: Call, arguments: Depth) -> JsonObject:
    """Alive, and how: version, index, runs, workers, problems. With ``deep`` each part is asked."""
    workspace = call.workspace
    report: JsonObject = {
        "status": "ok",
        "version": __version__,
        "python": sys.version.split()[0],
        "pid": os.getpid(),
        "root": str(workspace.root),
        "uptime_seconds": round(time.time() - workspace.opened_at, 1),
        "rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        "index": workspace.index.status().model_dump(mode="json"),
        "workers": dict(workspace.index.worker_pids()),
        "sandbox": {
            "backend": workspace.sandbox.name,
            "cuts_network": workspace.sandbox.can_cut_network,
            "limits": workspace.sandbox.holds_limits,
            "why": workspace.sandbox.why,
        },
        "model": {"name": workspace.settings.llm.model, **workspace.backend.health()},
        "runs": list(workspace.runs.active()),
        "approvals": len(workspace.approvals.open()),
        "logs_dropped": logs.dropped(),
        "config_problems": [problem.model_dump(mode="json") for problem in workspace.config.problems],
        "policy_problems": [problem.model_dump(mode="json") for problem in workspace.policies.problems],
    }
    report.update({name: part() for name, part in workspace.health_parts.items()})
    if arguments.deep:
        services = await _services(call)
        report["services"] = services
        if any(isinstance(part, dict) and not part["ok"] for part in services.values()):
            report["status"] = "degraded"
    return report


async def _services(call: Call) -> JsonObject:
    workspace = call.workspace

    async def database() -> str:
        broken = await workspace.store.verify("workspace")
        return "" if not broken else f"broken chain: {broken[0]}"

    async def index() -> str:
        await workspace.index.search("health", 1)
        return workspace.index.status().message

    async def model() -> str:
        return "" if workspace.settings.llm.model else "no model is set"

    found: JsonObject = {}
    for name, probe in (("database", database), ("index", index), ("model", model)):
        started = time.perf_counter()
        try:
            message = await asyncio.wait_for(probe(), 10)
            ok = not message or name == "model"
        except (CodeForgeError, TimeoutError) as error:
            ok, message = False, str(error) or type(error).__name__
        found[name] = {
            "ok": ok,
            "message": message,
            "latency_ms": round((time.perf_counter() - started) * 1000, 1),
        }
    return found


async def config_get(call: Call, _arguments: Nothing) -> JsonObject:
    """The settings in force, where each came from, and what is wrong with what was read last."""
    loaded = call.workspace.config.loaded
    return {
        "settings": call.workspace.settings.model_dump(mode="json"),
        "sources": {path: str(source) for path, source in loaded.sources.items()},
        "problems": [problem.model_dump(mode="json") for problem in call.workspace.config.problems],
    }


async def config_reload(call: Call, _arguments: Nothing) -> JsonObject:
    """Read configuration and policies again."""
    return (await call.workspace.reload_settings()).model_dump(mode="json")


async def stop(call: Call, _arguments: Nothing) -> JsonObject:
    """Shut the daemon down cleanly: runs are suspended and can be resumed."""
    call.stop(f"stopped by {call.actor.label}")
    return {"stopping": True}


OPERATIONS = (
    Operation("health", "Alive and well?", Depth, health, vital=True),
    Operation("config.get", "Settings in force", Nothing, config_get, persons_only=True),
    Operation(
        "config.reload",
        "Read the configuration again",
        Nothing,
        config_reload,
        persons_only=True,
        changes=True,
    ),
    Operation(
        "workspace.stop", "Shut down cleanly", Nothing, stop, persons_only=True, changes=True, vital=True
    ),
)
