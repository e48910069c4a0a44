"""The vault: keys of providers from the environment, from a private file, and from editors. Standard library only.

The daemon takes them out of its environment before it starts anything, so that no child inherits one. Only the model
worker is given them, with each call, through its pipe. They are kept in memory and hidden wherever text leaves.
"""

from __future__ import annotations

import os
import re
import stat
import threading
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path

from codeforge_ls import redaction

NAME = re.compile(r"[A-Z][A-Z0-9_]{1,99}\Z")
LINE = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)\Z")
MAX_FILE, MAX_VALUE, MAX_KEYS = 64 << 10, 16 << 10, 100
KEYS_FILE = "keys.env"  # in the user's configuration folder
ENVIRONMENT, FILE = "environment", "file"

_taken: dict[str, str] = {}


def take_from_environment(environ: MutableMapping[str, str] | None = None) -> Mapping[str, str]:
    """Move the secrets of the environment out of it, before the first child starts; returns all it ever held."""
    environment = os.environ if environ is None else environ
    for name in [name for name, value in environment.items() if redaction.is_secret(name, value)]:
        _taken[name] = environment.pop(name)
    redaction.know(_taken.values())
    return _taken


@dataclass(frozen=True)
class Entry:
    """A key by name, and where it came from: the environment, the file, or the label of an editor. Never the value."""

    name: str
    source: str


class Vault:
    """Keys by name. What a person hands over beats the environment, which beats the file. Safe to use in threads."""

    def __init__(self, environ: Mapping[str, str], file: Path) -> None:
        self._environ, self.file = dict(environ), file
        self._lock = threading.Lock()
        self._from_file: dict[str, str] = {}
        self._handed: dict[str, tuple[str, str]] = {}
        self.problems: tuple[str, ...] = ()
        self.reload()

    def get(self) -> dict[str, str]:
        """Every key, by the name of the variable that a provider's client looks for."""
        with self._lock:
            handed = {name: value for name, (value, _) in self._handed.items()}
            return {**self._from_file, **self._environ, **handed}

    def entries(self) -> list[Entry]:
        """The names, sorted, with their sources."""
        with self._lock:
            sources = dict.fromkeys(self._from_file, FILE) | dict.fromkeys(self._environ, ENVIRONMENT)
            sources |= {name: by for name, (_, by) in self._handed.items()}
        return [Entry(name, source) for name, source in sorted(sources.items())]

    def reload(self) -> None:
        """Read the file again (SIGHUP). A file that others may read, or that cannot be read, gives no key; what is
        wrong with it is in ``problems``, without a word of its content."""
        found, problems = _read(self.file)
        redaction.know(found.values())
        with self._lock:
            self._from_file, self.problems = found, tuple(problems)

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
