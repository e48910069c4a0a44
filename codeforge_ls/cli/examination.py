"""What ``codeforge doctor`` looks at: the machine, the installation, the folders, the settings, the daemon."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import site
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from codeforge_ls import __version__
from codeforge_ls.cli.verb import Context
from codeforge_ls.rendezvous import NoDaemon, Refused, socket_path

Grade = Literal["good", "note", "bad"]
EVIL_LITELLM = ("1.82.7", "1.82.8")  # compromised releases: their .pth file ran at each start of Python


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. ``bad`` means that something will not work."""

    name: str
    grade: Grade
    text: str

    def as_json(self) -> dict[str, str]:
        """The wire form."""
        return asdict(self)


def examine(context: Context) -> list[Finding]:
    """All checks; one that breaks is itself a finding."""
    findings: list[Finding] = []
    for check in (
        *(_python, _git, _sqlite, _grammars, _litellm, _sandbox),
        *(_socket, _state, _settings, _daemon, _database),
    ):
        findings += _guarded(check, context)
    return findings


def _guarded(check: Callable[[Context], Iterator[Finding]], context: Context) -> list[Finding]:
    try:
        return list(check(context))
    except Exception as error:  # noqa: BLE001 - a check that breaks must not hide the others
        return [Finding(check.__name__.strip("_"), "bad", f"{type(error).__name__}: {error}")]


def _python(_context: Context) -> Iterator[Finding]:
    version = platform.python_version()
    old = sys.version_info < (3, 11)
    yield Finding(
        "python", "bad" if old else "good", f"{version} at {sys.executable}, codeforge {__version__}"
    )
    if sys.platform != "linux":
        yield Finding("platform", "note", f"{sys.platform}: commands run without a sandbox")


def _git(_context: Context) -> Iterator[Finding]:
    git = shutil.which("git")
    if git is None:
        yield Finding("git", "bad", "not found on PATH; checkpoints need it")
        return
    said = subprocess.run(
        [git, "--version"], capture_output=True, text=True, timeout=10, check=False
    ).stdout.strip()
    yield Finding("git", "good" if said else "bad", f"{said or 'does not answer'} at {git}")


def _sqlite(_context: Context) -> Iterator[Finding]:
    enough = sqlite3.sqlite_version_info >= (3, 35, 0)
    yield Finding(
        "sqlite", "good" if enough else "bad", f"{sqlite3.sqlite_version} (3.35 or newer is needed)"
    )


def _grammars(_context: Context) -> Iterator[Finding]:
    version = metadata.version("tree-sitter-language-pack")
    if not version.startswith("0."):
        yield Finding(
            "grammars", "bad", f"tree-sitter-language-pack {version} downloads at run time; 0.13 is needed"
        )
        return
    from tree_sitter_language_pack import get_language

    for name in ("python", "bash", "typescript", "rust"):
        get_language(name)
    yield Finding("grammars", "good", f"tree-sitter-language-pack {version}, loaded from the installation")


def _litellm(_context: Context) -> Iterator[Finding]:
    version = metadata.version("litellm")
    folders = {*site.getsitepackages(), site.getusersitepackages(), *(path for path in sys.path if path)}
    planted = [str(file) for folder in folders if (file := Path(folder) / "litellm_init.pth").exists()]
    if planted or version in EVIL_LITELLM:
        text = f"litellm {version} is a compromised release; remove {', '.join(planted) or 'it'} and change your keys"
        yield Finding("litellm", "bad", text)
    else:
        yield Finding("litellm", "good", f"{version}, no litellm_init.pth")


def _sandbox(context: Context) -> Iterator[Finding]:
    """What isolates commands, and why not something else: each backend is tried."""
    import asyncio

    from codeforge_ls.config import load_settings
    from codeforge_ls.sandbox import Place, probe, survey

    config = Path(context.arguments.config) if context.arguments.config else None
    settings = load_settings(context.root, overrides=context.overrides, config_path=config).settings.sandbox
    place = Place()

    async def look() -> list[Finding]:
        chosen = await probe(settings, place)
        grade: Grade = "good" if chosen.can_cut_network else "note"
        if chosen.can_cut_network:
            text = f"{chosen.name}: it cuts the network and keeps commands in the workspace"
        elif chosen.deliberate:
            text = "none, as the settings say: commands run on your files as they are"
        else:
            text = f"{chosen.name}: it cannot cut the network; a person is asked before each command"
        found = [
            Finding("sandbox", grade, f"{text}; limits are held by {chosen.holds_limits}"),
        ]
        async for one in survey(settings, place):
            works = "works" if one.backend else "does not work"
            found.append(
                Finding(f"sandbox {one.name}", "good" if one.backend else "note", f"{works}: {one.why}")
            )
        return found

    yield from asyncio.run(look())


def _socket(context: Context) -> Iterator[Finding]:
    try:
        yield Finding("socket", "good", socket_path(str(context.root)))
    except Refused as refused:
        yield Finding("socket", "bad", str(refused))


def _state(context: Context) -> Iterator[Finding]:
    from codeforge_ls.config import state_dir

    folder = state_dir(context.root)
    mode = stat.S_IMODE(folder.stat().st_mode)
    free = shutil.disk_usage(folder).free >> 20
    writable = os.access(folder, os.W_OK | os.X_OK)
    grade: Grade = "bad" if not writable or mode & 0o077 else "note" if free < 500 else "good"
    yield Finding("state", grade, f"{folder}, mode {mode:o}, {free} MiB free")


def _settings(context: Context) -> Iterator[Finding]:
    from codeforge_ls.config import load_settings

    config = Path(context.arguments.config) if context.arguments.config else None
    loaded = load_settings(context.root, overrides=context.overrides, config_path=config)
    for problem in loaded.problems:
        yield Finding("settings", "note", problem.text)
    if not loaded.problems:
        yield Finding("settings", "good", "no problems")
    model = loaded.settings.llm.model
    how = "none set; agents need one: CODEFORGE_LLM_MODEL=..., or llm.model in the user's config.yaml"
    yield Finding("model", "good" if model else "note", model or how)


def _daemon(context: Context) -> Iterator[Finding]:
    try:
        facts = context.daemon(start=False).call("daemon.status")
    except NoDaemon:
        yield Finding("daemon", "note", "not running; the first front end starts it")
        return
    except Refused as refused:
        yield Finding("daemon", "bad", str(refused))
        return
    same = facts["version"] == __version__
    yield Finding("daemon", "good" if same else "note", f"pid {facts['pid']}, version {facts['version']}")


def _database(context: Context) -> Iterator[Finding]:
    from codeforge_ls.config import state_dir

    path = state_dir(context.root) / "state.db"
    if _daemon_holds_it(context):
        yield Finding("database", "good", f"{path}, in use by the daemon; `codeforge health --deep` asks it")
    elif not path.exists() or not path.stat().st_size:
        yield Finding("database", "note", f"{path} is not there yet; the first daemon makes it")
    else:
        yield _database_by_itself(path)


def _daemon_holds_it(context: Context) -> bool:
    with contextlib.suppress(Refused):
        return context.daemon(start=False).call("daemon.status")["workspace_open"] is True
    return False


def _database_by_itself(path: Path) -> Finding:
    """Read the file, without changing it: its pages, and by which migrations it was made."""
    from codeforge_ls.store.database import damaged, translated

    try:
        with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
            wrong = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            if wrong != "ok":
                return Finding("database", "bad", damaged(path, wrong).text)
            steps = connection.execute("SELECT name FROM sqlite_master WHERE name = 'schema_migrations'")
            if steps.fetchone() is None:
                text = f"{path} has no list of migrations: it is of something else. Move it away."
                return Finding("database", "bad", text)
            applied = dict(connection.execute("SELECT number, checksum FROM schema_migrations"))
    except sqlite3.Error as error:
        return Finding("database", "bad", translated(error, path).text)
    return _version_finding(path, applied)


def _version_finding(path: Path, applied: Mapping[int, str]) -> Finding:
    from codeforge_ls.store.database import damaged
    from codeforge_ls.store.migrate import migrations

    known = {step.number: step.checksum for step in migrations()}
    newest = max(applied, default=0)
    if newest > max(known):
        text = f"{path} is of a newer CodeForge: version {newest}, this one knows {max(known)}. Update codeforge-ls."
        return Finding("database", "bad", text)
    if sorted(applied) != sorted(known)[: len(applied)]:
        return Finding("database", "bad", damaged(path, "its list of migrations has gaps").text)
    if changed := [number for number in applied if applied[number] != known[number]]:
        text = f"{path} was made by another migration {changed[0]} than this one's. Reinstall the codeforge-ls of then."
        return Finding("database", "bad", text)
    return Finding("database", "good", f"{path}, sound, version {newest} of {max(known)}")
