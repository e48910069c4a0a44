"""``make agents``: the official MCP conformance suite and real agents against the real daemon; 1 if one fails."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from tests.agents.programs import PROGRAMS, Server
from tests.mcp.http_place import codeforge, events, open_door
from tests.mcp.shop import BIN, FIX, Shop, indexed, shop

FOREIGN = Path(os.environ["FOREIGN"])
PORT = 3960  # of the model
SUITE = "@modelcontextprotocol/conformance/dist/index.js"
REVISIONS = ("2025-11-25", "2026-07-28")
# A page of our own origin would be let in by the suite; we serve none, so whoever says Origin is refused (ADR 12).
ON_PURPOSE = {"localhost-host-valid-accepted"}
SCRIPT = [
    {"tool": r"search_code$", "args": {"query": "total"}},
    {"tool": r"apply_edits$", "args": {"edits": [FIX]}},
    {"say": "Done."},
]
Json = dict[str, Any]


async def conformance() -> bool:
    """Both revisions of the protocol over the HTTP door. Tasks are an extension that we do not offer; not scored."""
    good = True
    with folder() as base:
        place = Shop(base)
        place.env |= {"CODEFORGE_MCP_HTTP": "true"}
        command = [sys.executable, "-m", "tests.agents.daemon", "--root", str(place.root)]
        daemon = subprocess.Popen(
            command, env=place.env | {"PYTHONPATH": os.getcwd()}, stderr=subprocess.DEVNULL
        )
        try:
            while not json.loads((await codeforge(place, "daemon", "status", "--json"))[1])["running"]:
                await asyncio.sleep(0.2)
            url = json.loads((await codeforge(place, "mcp", "http", "--json"))[1])["url"]
            for revision in REVISIONS:
                results = base / revision
                words = ["server", "--url", url.replace("127.0.0.1", "localhost"), "--requirements", revision]
                node, suite = FOREIGN / "node", FOREIGN / "node_modules" / SUITE
                done = subprocess.run(
                    [node, suite, *words, "-o", results],
                    capture_output=True,
                    text=True,
                    timeout=400,
                    check=False,
                )
                failed = {check["id"] for check in checks(results) if check["status"] == "FAILURE"}
                scenarios = re.findall(r"^([✓✗]) (\S+): ", done.stdout, re.MULTILINE)
                met = [name for mark, name in scenarios if mark == "✓"]
                not_met = {name for mark, name in scenarios if mark == "✗" and not name.startswith("tasks-")}
                total = re.search(r"Total: .*", done.stdout)
                print(
                    f"conformance {revision}: {len(met)} of {len(scenarios)} scenarios, {total and total[0]}"
                )
                print(f"  not met, extensions aside: {', '.join(sorted(not_met)) or 'none'}")
                unwanted = {check for check in failed if "task" not in check} - ON_PURPOSE
                good &= len(met) > 25 and not_met <= {"dns-rebinding-protection"} and not unwanted
        finally:
            daemon.terminate()
            daemon.wait(20)
    return good


def checks(results: Path) -> Iterator[Json]:
    """Every check of every scenario."""
    for file in results.rglob("checks.json"):
        yield from json.loads(file.read_text())


@contextmanager
def folder() -> Iterator[Path]:
    base = Path(tempfile.mkdtemp(prefix="cf", dir="/tmp"))
    try:
        yield base
    finally:
        shutil.rmtree(base, ignore_errors=True)


@asynccontextmanager
async def served(base: Path, way: str) -> AsyncIterator[tuple[Shop, Server]]:
    """The workspace, and how an agent gets there."""
    if way == "http":
        async with open_door(base) as door:
            yield door.shop, Server(url=door.url, token=door.token)
    else:
        async with shop(base) as place:
            words = (str(BIN / "codeforge-mcp"), "--root", str(place.root))
            # A daemon that is at home already, as on any day: some agents ask their model 0.3 s after their start, and
            # the first agent of a daemon waits for the import of the SDK.
            place.env |= {"CODEFORGE_DAEMON_IDLE_SECONDS": "60"}
            place.stack.push_async_callback(codeforge, place, "daemon", "stop")
            await codeforge(place, "index")  # starts it with those seconds
            before = await place.agent()
            await indexed(before)
            await before.close()
            # Agents do not hand on their whole environment.
            ours = {name: value for name, value in place.env.items() if name.startswith("XDG_")}
            yield place, Server(command=words, env=ours)


async def play(name: str, way: str, *, allowed: bool) -> Json:
    """One agent searches and edits, with an editor whose person allows it, or with nobody; what came of it."""
    with folder() as base:
        script, log = base / "script.json", base / "model.jsonl"
        script.write_text(json.dumps(SCRIPT))
        log.touch()
        words = ["-m", "tests.agents.model", "--port", str(PORT), "--script", str(script), "--log", str(log)]
        model = subprocess.Popen([sys.executable, *words])
        try:
            async with served(base, way) as (place, server):
                editor = await place.editor() if allowed else None
                home = base / "home"
                program = PROGRAMS[name](FOREIGN / "node_modules", home, server, f"http://127.0.0.1:{PORT}")
                begun = time.monotonic()
                process = await asyncio.create_subprocess_exec(
                    *program.words, cwd=place.root, env=place.env | program.env,
                    stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                )  # fmt: skip
                said, _ = await asyncio.wait_for(process.communicate(), 240)
                took = time.monotonic() - begun
                prompts = len(editor.prompts) if editor else 0
                if editor:
                    await editor.close()
                logged = events(place)
                edited = "return sum(prices)\n" in (place.root / "shop/cart.py").read_text()
        finally:
            model.terminate()
            model.wait()
        turns = [turn for line in log.read_text().splitlines() if (turn := json.loads(line)).get("tools")]
        kinds = [kind for _, kind, _ in logged]
        fits = (
            prompts == int(allowed)
            and edited is allowed
            and kinds.count("approval.answered") == 1
            and kinds.count("checkpoint.created") == int(allowed)
            and any("cart.py" in result and "total" in result for turn in turns for result in turn["results"])
        )
        clients = {payload["client"] for _, kind, payload in logged if kind == "session.attached"}
        client = " ".join(sorted(clients - {"test-editor", "test-agent/1"}))
        return {
            "agent": name, "way": way, "allowed": allowed, "client": client,
            "tools_in_turn": next((at for at, turn in enumerate(turns, 1) if turn["matched"]), None),
            "edited": edited, "seconds": round(took, 1), "good": fits, "said": "" if fits else said.decode()[-500:],
        }  # fmt: skip


async def main(wanted: list[str]) -> int:
    good = True
    if not wanted or "conformance" in wanted:
        good &= await conformance()
    for name in PROGRAMS:
        if wanted and name not in wanted:
            continue
        for way in ("pipe", "http"):
            for allowed in (False, True):
                came = await play(name, way, allowed=allowed)
                good &= came["good"]
                print(json.dumps(came), flush=True)
    print("all as it should be" if good else "NOT as it should be")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1:])))
