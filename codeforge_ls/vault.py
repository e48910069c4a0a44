"""The vault: keys of providers from the environment, from a private file, from a keyring by way of a program that this
file names, and from editors. Standard library only.

The daemon takes them out of its environment before it starts anything, so that no child inherits one. Only the model
worker is given them, with each call, through its pipe. They are kept in memory and hidden wherever text leaves.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shlex
import signal
import stat
import subprocess
import threading
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path

from codeforge_ls import redaction

NAME = re.compile(r"[A-Z][A-Z0-9_]{1,99}\Z")
LINE = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)\Z")
PROGRAM = re.compile(r"\$\((.*)\)\Z")  # OPENAI_API_KEY=$(secret-tool lookup service openai)
ASK_SECONDS = 10.0  # that such a program has; a locked keyring may wait for its owner
MAX_FILE, MAX_VALUE, MAX_KEYS = 64 << 10, 16 << 10, 100
KEYS_FILE = "keys.env"  # in the user's configuration folder
ENVIRONMENT, FILE = "environment", "file"

_taken: dict[str, str] = {}

log = logging.getLogger(__name__)


def take_from_environment(environ: MutableMapping[str, str] | None = None) -> Mapping[str, str]:
    """Move the secrets of the environment out of it, before the first child starts; returns all it ever held."""
    environment = os.environ if environ is None else environ
    for name in [name for name, value in environment.items() if redaction.is_secret(name, value)]:
        _taken[name] = environment.pop(name)
    redaction.know(_taken.values())
    return _taken


@dataclass(frozen=True)
class Entry:
    """A key by name, and where it came from: the environment, the file, a program, or the label of an editor. Never the
    value."""

    name: str
    source: str


class Vault:
    """Keys by name. What a person hands over beats the environment, which beats the file, and what programs answer that
    it names. Safe to use in threads."""

    def __init__(self, environ: Mapping[str, str], file: Path) -> None:
        self._environ, self.file = dict(environ), file
        self._lock = threading.Lock()
        self._from_file: dict[str, str] = {}
        self._asked: list[_Asked] = []
        self._handed: dict[str, tuple[str, str]] = {}
        self._problems: tuple[str, ...] = ()
        self.reload()

    def get(self) -> dict[str, str]:
        """Every key, by the name of the variable that a provider's client looks for. Waits for the programs that are
        being asked: not for the event loop."""
        self.wait()
        with self._lock:
            handed = {name: value for name, (value, _) in self._handed.items()}
            answered = {asked.name: asked.value for asked in self._asked if asked.value}
            return {**self._from_file, **answered, **self._environ, **handed}

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong with the file and with the programs that it names, without a word of a value."""
        with self._lock:
            return (*self._problems, *(asked.problem for asked in self._asked if asked.problem))

    def wait(self) -> None:
        """Until every program has answered, or its time is over."""
        with self._lock:
            asked = list(self._asked)
        for one in asked:
            one.join(ASK_SECONDS + 1)

    def entries(self) -> list[Entry]:
        """The names, sorted, with their sources."""
        with self._lock:
            sources = dict.fromkeys(self._from_file, FILE)
            sources |= {asked.name: f"program:{asked.program}" for asked in self._asked if asked.value}
            sources |= dict.fromkeys(self._environ, ENVIRONMENT)
            sources |= {name: by for name, (_, by) in self._handed.items()}
        return [Entry(name, source) for name, source in sorted(sources.items())]

    def reload(self) -> None:
        """Read the file again (SIGHUP), and begin to ask the programs that it names. A file that others may read, or
        that cannot be read, gives no key; ``problems`` says why."""
        found, problems = _read(self.file)
        asked = [
            _Asked(name, match[1], self.file)
            for name, value in found.items()
            if (match := PROGRAM.match(value))
        ]
        for one in asked:
            del found[one.name]
            one.start()
        redaction.know(found.values())
        with self._lock:
            self._from_file, self._asked, self._problems = found, asked, tuple(problems)

    def hand_over(self, keys: Mapping[str, str | None], by: str) -> None:
        """Take keys from a person's editor or terminal, until the daemon ends; None takes one back.

        Raises ``ValueError`` with a sentence for a name that is not that of a key: it could steer a program instead.
        """
        for name, value in keys.items():
            if problem := _problem(name, value):
                raise ValueError(problem)
        redaction.know(value for value in keys.values() if value)
        with self._lock:
            for name, value in keys.items():
                if value is None:
                    self._handed.pop(name, None)
                else:
                    self._handed[name] = (value, by)


class _Asked(threading.Thread):
    """A program that is asked for a key: without a shell, a terminal or input, for a limited time."""

    def __init__(self, name: str, line: str, file: Path) -> None:
        super().__init__(name=f"key {name}", daemon=True)
        self._line, self._file, self._late = line, file, False
        self.program = Path(line.strip().partition(" ")[0]).name
        self.name, self.value, self.problem = name, "", f"{file}: {self.program} has not given {name} yet."

    def run(self) -> None:
        """Ask, and keep the answer or what is wrong with it."""
        value, wrong = "", ""
        try:
            value = self._answer(shlex.split(self._line)).removesuffix("\n").removesuffix("\r")
            wrong = _problem(self.name, value)
        except (OSError, ValueError, IndexError) as error:
            wrong = f"{self.program} cannot be asked: {getattr(error, 'strerror', None) or error}."
        except subprocess.SubprocessError as error:
            wrong = f"{error} Run it in a terminal to see why."
        if wrong:
            self.problem = f"{self._file}: {self.name} is not set. {wrong}"
            log.warning("keys: %s", self.problem)
        else:
            redaction.know([value])
            self.value, self.problem = value, ""

    def _answer(self, words: list[str]) -> str:
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=self._file.parent,
            start_new_session=True,  # no terminal to ask at, and one group to end
        )
        timer = threading.Timer(ASK_SECONDS, self._end, (process,))
        timer.daemon = True
        timer.start()
        try:
            assert process.stdout is not None  # noqa: S101 - it was asked for
            with process.stdout:
                text = process.stdout.read(MAX_VALUE + 2)
            code = process.wait()
        finally:
            timer.cancel()
        if self._late:
            raise subprocess.SubprocessError(f"{self.program} did not answer within {ASK_SECONDS:g} s.")
        if code:
            raise subprocess.SubprocessError(f"{self.program} ended with {code}.")
        return text.decode(errors="replace")

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        self._late = True
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)


def _problem(name: str, value: str | None) -> str:
    if not NAME.match(name) or not redaction.SECRET_NAME.search(name):
        return f"{name[:60]!r} is not the name of a key, such as OPENAI_API_KEY."
    if value is not None and (not value.strip() or len(value) > MAX_VALUE or not value.isprintable()):
        return f"The value of {name} is empty, too long or holds control characters."
    return ""


def _read(file: Path) -> tuple[dict[str, str], list[str]]:
    try:
        with file.open("rb") as opened:
            status = os.fstat(opened.fileno())
            if not stat.S_ISREG(status.st_mode):
                return {}, [f"{file} is no regular file; no key was read."]
            if status.st_uid != os.getuid() or status.st_mode & 0o077:
                return {}, [f"{file} may be read by others; no key was read. Fix: chmod 600 {file}"]
            data = opened.read(MAX_FILE + 1)
    except FileNotFoundError:
        return {}, []
    except OSError as error:
        return {}, [f"{file} cannot be read: {error.strerror or error}."]
    if len(data) > MAX_FILE:
        return {}, [f"{file} is larger than {MAX_FILE >> 10} KiB; no key was read."]
    found: dict[str, str] = {}
    problems: list[str] = []
    for number, line in enumerate(data.decode("utf-8-sig", "replace").splitlines(), 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        match = LINE.match(text)
        value = match[2].strip() if match else ""
        if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
            value = value[1:-1]
        if match is None or _problem(match[1], value) or len(found) >= MAX_KEYS:
            problems.append(f"{file}:{number} is not NAME=VALUE with the name of a key; it was left out.")
        else:
            found[match[1]] = value
    return found, problems
