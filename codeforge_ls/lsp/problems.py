"""What is wrong with settings and policies, told to one editor: a message for what is new, diagnostics on the files."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lsprotocol import types

from codeforge_ls.lsp.places import Places, file_uri
from codeforge_ls.model.base import JsonObject

if TYPE_CHECKING:
    from codeforge_ls.config import ConfigProblem
    from codeforge_ls.lsp.protocol import SessionProtocol
    from codeforge_ls.policy.library import PolicyProblem

MAX_SHOWN = 3  # problems in one message; the log and the diagnostics have all
MAX_LOGGED = 20
MAX_TEXT = 300  # characters of one problem
LINE_END = 1000  # past the end of a line is its end (LSP 3.17, Position)


@dataclass(frozen=True)
class Problem:
    """One problem. ``line`` counts from 1, 0 where no line is to blame; ``file`` may be no path."""

    file: str
    line: int
    message: str
    severity: types.DiagnosticSeverity

    @classmethod
    def of_setting(cls, problem: ConfigProblem) -> Problem:
        """A problem of the configuration."""
        message = f"{problem.field}: {problem.message}" if problem.field else problem.message
        severity = types.DiagnosticSeverity.Error
        if problem.severity.value == "warning":
            severity = types.DiagnosticSeverity.Warning
        return cls(problem.file, problem.line, message[:MAX_TEXT], severity)

    @classmethod
    def of_policy(cls, problem: PolicyProblem) -> Problem:
        """A problem of a policy file, whose profile denies everything until it is solved."""
        return cls(problem.file, problem.line, problem.message[:MAX_TEXT], types.DiagnosticSeverity.Error)

    @property
    def text(self) -> str:
        """One line for people."""
        return f"{self.file}:{self.line}: {self.message}" if self.line else f"{self.file}: {self.message}"

    @property
    def key(self) -> tuple[str, str]:
        """What makes it the same problem, also when lines above it come and go."""
        return self.file, self.message


class ProblemReport:
    """Tells one editor. A problem that was told is told again only after it had been solved."""

    def __init__(self, protocol: SessionProtocol, places: Places, log_line: Callable[[str], None]) -> None:
        self._protocol, self._places, self._log_line = protocol, places, log_line
        self._told: set[tuple[str, str]] = set()
        self._marked: dict[str, list[JsonObject]] = {}

    def show(self, settings: Iterable[ConfigProblem], policies: Iterable[PolicyProblem]) -> None:
        """These are the problems now, all of them."""
        problems = [*map(Problem.of_setting, settings), *map(Problem.of_policy, policies)]
        fresh = [problem for problem in problems if problem.key not in self._told]
        self._told = {problem.key for problem in problems}
        self._mark(problems)
        if fresh:
            self._say(fresh)

    def _say(self, problems: list[Problem]) -> None:
        for problem in problems[:MAX_LOGGED]:
            self._log_line(f"Settings: {problem.text}")
        lines = [problem.text for problem in problems[:MAX_SHOWN]]
        if more := len(problems) - len(lines):
            lines.append(f"and {more} more: `codeforge health` lists all")
        params: JsonObject = {
            "type": types.MessageType.Warning.value,
            "message": "CodeForge settings: " + "\n".join(lines),
        }
        self._protocol.notify(types.WINDOW_SHOW_MESSAGE, params)

    def _mark(self, problems: list[Problem]) -> None:
        """Diagnostics of the files that have some, and empty ones for those that had."""
        wanted: dict[str, list[JsonObject]] = {}
        for problem in problems:
            if problem.file.startswith("/"):
                wanted.setdefault(self._uri(problem.file), []).append(_diagnostic(problem))
        for uri in {**self._marked, **wanted}:
            marks = wanted.get(uri, [])
            if marks != self._marked.get(uri):
                params: JsonObject = {"uri": uri, "diagnostics": [*marks]}
                self._protocol.notify(types.TEXT_DOCUMENT_PUBLISH_DIAGNOSTICS, params)
        self._marked = wanted

    def _uri(self, file: str) -> str:
        relative = self._places.relative_path(file)
        return file_uri(file) if relative is None else self._places.uri(relative)


def _diagnostic(problem: Problem) -> JsonObject:
    line = max(0, problem.line - 1)
    return {
        "range": {"start": {"line": line, "character": 0}, "end": {"line": line, "character": LINE_END}},
        "severity": problem.severity.value,
        "source": "codeforge",
        "message": problem.message,
    }
