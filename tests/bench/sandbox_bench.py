"""Starting a command behind each backend, over a plain spawn of the same program; merging a layer of hybrid mode."""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

from codeforge_ls.actions.merging import Plan
from codeforge_ls.config import SandboxSettings
from codeforge_ls.model.checkpoints import CheckpointKind
from codeforge_ls.sandbox import CommandSpec, Place, Sandbox, probe
from codeforge_ls.sandbox.layer import Layer
from codeforge_ls.sandbox.limits import DEFAULT
from tests.bench.table import Row, at, ms
from tests.soak.ground import Ground, ground_with_code
from tests.soak.merge_child import merger

FILES, TIMES, MERGED, MERGES = 2000, 40, 200, 8
BARS = {"bubblewrap": "30 ms", "landlock": "20 ms", "docker": "250 ms"}


def rows() -> Iterator[Row]:
    """The figures."""
    with ground_with_code("bench", FILES) as ground:
        yield from asyncio.run(_starts(ground))
        yield from asyncio.run(_merges(ground))


async def _starts(ground: Ground) -> list[Row]:
    found = []
    plain, _ = await _timed(_spawn)
    for name, bar in BARS.items():
        sandbox = await probe(SandboxSettings(backend=name), Place(ground.base / "state", "bench"))
        if not sandbox.can_cut_network:
            found.append(Row(f"start behind {name}", f"not here: {sandbox.why[:60]}", bar))
            continue
        seconds, cpu = await _timed(lambda sandbox=sandbox: _run(sandbox, ground.root))
        over = (at(0.5, seconds) - at(0.5, plain)) * 1e3
        beside = f"plain spawn {ms(plain)}; {cpu * 1e3:.1f} ms CPU each; limits by {sandbox.holds_limits}"
        found.append(Row(f"start behind {name}, over a plain spawn", f"p50 {over:.1f} ms", bar, beside))
        await sandbox.release()
    return found


async def _timed(call: Callable[[], Awaitable[object]]) -> tuple[list[float], float]:
    """Seconds of each call, and processor seconds of one, our own and the children's."""
    seconds, before = [], _cpu()
    for _ in range(TIMES):
        began = time.perf_counter()
        await call()
        seconds.append(time.perf_counter() - began)
    return seconds, (_cpu() - before) / TIMES


def _cpu() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


async def _spawn() -> None:
    await (await asyncio.create_subprocess_exec("true")).wait()


async def _run(sandbox: Sandbox, root: Path) -> None:
    result = await sandbox.run(CommandSpec("true", root, root, limits=DEFAULT))
    assert result.exit_code == 0, result


async def _merges(ground: Ground) -> list[Row]:
    """A layer of changed and new files, merged again and again; the checkpoint before it is measured by itself."""
    state = ground.base / "state"
    ours, checkpoints = merger(ground.root, state)
    names = [path.relative_to(ground.root) for path in sorted(ground.root.rglob("*.py"))[: MERGED // 2]]
    planned, written, cpu = [], [], 0.0
    for number in range(MERGES):
        began_ns = time.time_ns()
        await asyncio.sleep(0.05)
        base = await checkpoints.create("run:bench", label="bench", kind=CheckpointKind.ACTION)
        layer = Layer.make(state / "layers")
        for name in [*names, *(Path(f"new-{number}/{i}.py") for i in range(MERGED - len(names)))]:
            (layer.upper / name).parent.mkdir(parents=True, exist_ok=True)
            (layer.upper / name).write_text(f"merged = {number}\n" * 100)
        before, began = _cpu(), time.perf_counter()
        plan = await ours.plan(
            layer, base, began_ns, lambda _: True, Plan(str(layer.folder), "run:bench", "c")
        )
        planned.append(time.perf_counter() - began)
        merge = await ours.carry_out(plan)
        written.append(time.perf_counter() - began)
        cpu += _cpu() - before
        assert len(merge.files) == MERGED, merge.text
        layer.remove()
    await checkpoints.close()
    beside = f"plan {ms(planned)}; {cpu / MERGES * 1e3:.0f} ms CPU each; every file is synced to the disk"
    return [Row(f"hybrid: merge of {MERGED} files", ms(written), "500 ms", beside)]
