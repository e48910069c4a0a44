"""Git, always the same harmless way: scrubbed environment, nothing planted executed, five calls at a time."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import shutil
import signal
import stat
import subprocess
import threading
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from codeforge_ls.model.errors import NotFound, Unavailable

if TYPE_CHECKING:
    from git import Git as _GitPython

MAX_CALLS = 5
DEFAULT_TIMEOUT = 120.0  # seconds; nothing of a healthy repository takes that long

# What a planted .git/config could make git execute or fetch, switched off (semantics.md row 5).
NEUTRAL_CONFIG: Mapping[str, str] = {
    "core.fsmonitor": "false",
    "core.hooksPath": os.devnull,
    "core.pager": "cat",
    "core.editor": "false",
    "core.quotePath": "false",
    "core.attributesFile": os.devnull,
    "credential.helper": "",
    "diff.autoRefreshIndex": "false",  # `git diff` would rewrite the index, whatever GIT_OPTIONAL_LOCKS says
    "diff.ignoreSubmodules": "dirty",
    "gc.auto": "0",
    "log.showSignature": "false",
    "maintenance.auto": "false",
    "protocol.allow": "never",
    "submodule.recurse": "false",
}
NEUTRAL_ENVIRONMENT: Mapping[str, str] = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_PAGER": "cat",
    "LC_ALL": "C",
}
# Files in a work tree that git opens for its rules. It would wait for a writer where one is a pipe.
RULE_FILES = frozenset({".gitignore", ".gitattributes"})
READS_RULES = frozenset({"add", "check-attr", "check-ignore", "diff", "grep", "ls-files", "status"})
PATIENCE = 1.0  # seconds of such a call, after which it is looked for what it may wait on
DIFFING = frozenset({"diff", "diff-tree", "diff-index", "diff-files", "log", "show"})
# These never look at file contents through a filter; all others pay one look at the configured filters.
FILTERLESS = frozenset(
    {"cat-file", "config", "for-each-ref", "ls-files", "ls-tree", "rev-list", "rev-parse", "symbolic-ref"}
)

_slots = threading.BoundedSemaphore(MAX_CALLS)


class GitFailed(Unavailable):
    """Git ended with an error, did not end in time, or is not installed. ``data.status`` is its exit code."""

    code = "git_failed"


class Stopped(Exception):
    """The call was cancelled; its process is dead."""


class Cancellation:
    """Lets the event loop stop git calls that a thread waits for. After ``seal`` it no longer can."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cancelled = False
        self._sealed = False
        self._processes: set[subprocess.Popen[bytes]] = set()

    def cancel(self) -> None:
        """Kill what runs now and refuse what comes later."""
        with self._lock:
            if self._sealed:
                return
            self._cancelled = True
            for process in self._processes:
                _kill_group(process)

    def seal(self) -> None:
        """The point of no return: what follows must run to its end. Raises Stopped when it is too late."""
        with self._lock:
            if self._cancelled:
                raise Stopped
            self._sealed = True

    def check(self) -> None:
        """Raise Stopped when the caller has gone."""
        if self._cancelled:
            raise Stopped

    @contextlib.contextmanager
    def watch(self, process: subprocess.Popen[bytes]) -> Iterator[None]:
        """Kill ``process`` when cancelled meanwhile."""
        with self._lock:
            self._processes.add(process)
            if self._cancelled:
                _kill_group(process)
        try:
            yield
        finally:
            with self._lock:
                self._processes.discard(process)


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    # Each git leads its own group (start_new_session), so its children go with it.
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)


@functools.cache
def git_program() -> str:
    """The absolute path of git. Relative PATH entries do not count: a repository must not bring its own."""
    folders = [
        entry for entry in os.environ.get("PATH", os.defpath).split(os.pathsep) if entry.startswith("/")
    ]
    program = shutil.which("git", path=os.pathsep.join(folders))
    if program is None:
        raise GitFailed("git was not found on PATH.", hint="Install git 2.34 or newer.")
    return program


def _without_inherited(kept: Mapping[str, str]) -> list[str]:
    # GitPython merges os.environ into every call, so what we inherited is dropped by env(1) in front of git.
    inherited = [name for name in os.environ if name.startswith("GIT_") and name not in kept]
    return ["/usr/bin/env", *(f"--unset={name}" for name in inherited)] if inherited else []


@contextlib.contextmanager
def started(
    folder: Path,
    *arguments: str,
    config: Mapping[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
    cancellation: Cancellation | None = None,
    inherit: Collection[int] = (),
) -> Iterator[subprocess.Popen[bytes]]:
    """A git process in ``folder`` with pipes on all streams, killed if still alive at exit; for threads.

    ``config`` is added to the neutral settings, ``environment`` to the scrubbed environment; ``inherit`` names
    open files to pass on, such as a lock that must last as long as the process.
    Raises GitFailed without git, NotFound without the folder, Stopped when cancelled.
    """
    if not folder.is_dir():
        raise NotFound(f"The folder {folder} does not exist.")  # GitPython would silently run elsewhere
    settings = {**NEUTRAL_CONFIG, **(config or {})}
    variables = {**NEUTRAL_ENVIRONMENT, **(environment or {}), "GIT_CONFIG_COUNT": str(len(settings))}
    # Pairs in the environment, not -c: a key may hold '=' and then -c would set another one.
    for number, (key, value) in enumerate(settings.items()):
        variables[f"GIT_CONFIG_KEY_{number}"] = key
        variables[f"GIT_CONFIG_VALUE_{number}"] = value
    options = ["--no-ext-diff", "--no-textconv"] if arguments[0] in DIFFING else []
    command = [*_without_inherited(variables), git_program(), arguments[0], *options, *arguments[1:]]
    with _slot(cancellation):
        repository = _gitpython(folder)
        handle = repository.execute(
            command,
            istream=subprocess.PIPE,
            as_process=True,
            env=variables,
            shell=False,
            start_new_session=True,
            pass_fds=tuple(inherit),
        )
        process = handle.proc
        if process is None:
            raise GitFailed(f"git {arguments[0]} could not be started.")
        try:
            with cancellation.watch(process) if cancellation else contextlib.nullcontext():
                yield process
        finally:
            _kill_group(process)
            for stream in (process.stdin, process.stdout, process.stderr):
                with contextlib.suppress(OSError):
                    if stream:
                        stream.close()
            process.wait()


@contextlib.contextmanager
def _slot(cancellation: Cancellation | None) -> Iterator[None]:
    while not _slots.acquire(timeout=0.05):
        if cancellation:
            cancellation.check()
    try:
        if cancellation:
            cancellation.check()
        yield
    finally:
        _slots.release()


def _gitpython(folder: Path) -> _GitPython:
    try:
        import git  # late: importing it starts a process and costs 100 ms
    except ImportError as error:
        raise GitFailed("git cannot be used.", hint=str(error).strip().split("\n", 1)[0]) from error
    return git.Git(folder)


def call(
    folder: Path,
    *arguments: str,
    stdin: bytes = b"",
    accept: Collection[int] = (0,),
    timeout: float = DEFAULT_TIMEOUT,
    config: Mapping[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
    cancellation: Cancellation | None = None,
    inherit: Collection[int] = (),
) -> bytes:
    """Run one git command to its end and return its output; blocking, for threads.

    Raises GitFailed when the exit code is not in ``accept``, after ``timeout`` s, or after about a second when it waits
    on a pipe; Stopped when cancelled.
    """
    with started(
        folder,
        *arguments,
        config=config,
        environment=environment,
        cancellation=cancellation,
        inherit=inherit,
    ) as process:
        try:
            output, errors = finished(process, folder, arguments[0], stdin, timeout)
        except subprocess.TimeoutExpired as error:
            raise GitFailed(f"git {arguments[0]} did not end within {timeout:g} s.") from error
    if cancellation:
        cancellation.check()
    if process.returncode not in accept:
        raise failure(arguments[0], process.returncode, errors)
    return output


def finished(
    process: subprocess.Popen[bytes], worktree: Path, command: str, stdin: bytes, timeout: float
) -> tuple[bytes, bytes]:
    """What a git process prints until it ends. Raises ``subprocess.TimeoutExpired`` after ``timeout`` s, and GitFailed
    as soon as it is known that it waits for a rule file that is a pipe; the caller kills it."""
    patience = min(PATIENCE, timeout) if command in READS_RULES else timeout
    try:
        return process.communicate(stdin, patience)
    except subprocess.TimeoutExpired:
        if patience == timeout:
            raise
    if pipe := waited_on(worktree):
        raise GitFailed(
            f"{pipe} is a pipe, for which git {command} would wait.",
            hint="Remove it: git reads its rules from regular files.",
            data={"file": pipe},
        )
    return process.communicate(timeout=timeout - patience)


def waited_on(worktree: Path) -> str | None:
    """A rule file of a work tree that is a pipe, as an absolute path; None where there is none."""
    folders = [os.fspath(worktree)]  # not os.walk: it calls itself for each folder in a folder
    while folders:
        with contextlib.suppress(OSError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    if entry.name != ".git":
                        folders.append(entry.path)
                elif entry.name in RULE_FILES and stat.S_ISFIFO(entry.stat(follow_symlinks=False).st_mode):
                    return entry.path
    return None


def failure(command: str, status: int, errors: bytes) -> GitFailed:
    """The error for a git command that ended badly, with the first lines of what it said."""
    said = errors.decode("utf-8", "backslashreplace").strip()[:500]
    return GitFailed(f"git {command} failed: {said or f'exit code {status}'}", data={"status": status})


def worktree_root(folder: Path) -> Path | None:
    """The root of the work tree that holds ``folder``, without asking git: no planted setting is believed."""
    real = Path(os.path.realpath(folder))
    return next((parent for parent in (real, *real.parents) if git_folder(parent)), None)


def git_folder(worktree: Path) -> Path | None:
    """Where the repository of a work tree lies: its ``.git``, or what a ``.git`` file names."""
    dot_git = worktree / ".git"
    try:
        if dot_git.is_file():
            text = dot_git.read_bytes()[:4096].decode("utf-8", "surrogateescape")
            if not text.startswith("gitdir: "):
                return None
            dot_git = worktree / text.removeprefix("gitdir: ").rstrip("\n")
        return dot_git if (dot_git / "HEAD").is_file() else None
    except (OSError, ValueError):
        return None


def common_folder(repository: Path) -> Path:
    """The folder a linked worktree shares with its main repository; for all others ``repository`` itself."""
    try:
        text = (repository / "commondir").read_bytes()[:4096].decode("utf-8", "surrogateescape")
    except OSError:
        return repository
    return repository / text.rstrip("\n")


@dataclass(frozen=True)
class StatusEntry:
    """One line of the short status: a ``code`` such as ``" M"``, the path, where a rename came from."""

    code: str
    path: str
    origin: str | None = None


class Git:
    """Calls to git in one folder that never hold the event loop: five at a time, killed when cancelled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    async def run(
        self,
        *arguments: str,
        stdin: bytes = b"",
        accept: Collection[int] = (0,),
        timeout: float = DEFAULT_TIMEOUT,  # noqa: ASYNC109 - a scope would not kill the process
    ) -> bytes:
        """Run one git command. Raises GitFailed on an exit code not in ``accept`` or after ``timeout`` s."""
        cancellation = Cancellation()
        config = {} if arguments[0] in FILTERLESS else await self._filters_off()
        work = functools.partial(
            call,
            self.folder,
            *arguments,
            stdin=stdin,
            accept=accept,
            timeout=timeout,
            config=config,
            cancellation=cancellation,
        )
        try:
            return await asyncio.get_running_loop().run_in_executor(_threads(), work)
        except asyncio.CancelledError:
            cancellation.cancel()
            raise

    async def head(self) -> str:
        """The commit of HEAD, or "" when there is none yet."""
        return (await self.run("rev-parse", "--quiet", "--verify", "HEAD", accept=(0, 1))).decode().strip()

    async def branch(self) -> str:
        """The name of the current branch (also an unborn one), or "" when HEAD is detached."""
        name = await self.run("symbolic-ref", "--quiet", "--short", "HEAD", accept=(0, 1))
        return name.decode("utf-8", "surrogateescape").strip()

    async def status(self) -> list[StatusEntry]:
        """The short status, untracked files included. The user's index is not refreshed, no filter is run."""
        output = await self.run(
            "status", "--porcelain=v1", "-z", "--untracked-files=all", "--ignore-submodules=dirty"
        )
        fields = iter(output.decode("utf-8", "surrogateescape").split("\0")[:-1])
        return [StatusEntry(line[:2], line[3:], next(fields) if line[0] in "RC" else None) for line in fields]

    async def _filters_off(self) -> dict[str, str]:
        listed = await self.run("config", "-z", "--name-only", "--get-regexp", r"^filter\.", accept=(0, 1))
        keys = listed.decode("utf-8", "surrogateescape").split("\0")[:-1]
        drivers = {key.rpartition(".")[0] for key in keys}
        off = {"clean": "", "smudge": "", "process": "", "required": "false"}
        return {f"{driver}.{setting}": value for driver in drivers for setting, value in off.items()}


@functools.cache
def _threads() -> ThreadPoolExecutor:
    # Own threads: the loop's default ones are few and also resolve names and read files.
    return ThreadPoolExecutor(MAX_CALLS, thread_name_prefix="git")
