"""The built-in modes: which tools an agent is given for its kind of work (rows MOD-2..9)."""

from __future__ import annotations

from codeforge_ls.model.actions import Tool
from codeforge_ls.model.base import Frozen
from codeforge_ls.model.errors import InvalidInput


class Mode(Frozen):
    """A way of working: its tools are enforced at call time, on top of the policy."""

    id: str
    description: str
    tools: frozenset[Tool]
    prompt: str = ""


LOOK = frozenset({Tool.READ, Tool.GLOB, Tool.GREP, Tool.SEARCH, Tool.REPO_MAP})
CHANGE = frozenset({Tool.EDIT, Tool.MULTI_EDIT, Tool.WRITE})

MODES = {
    mode.id: mode
    for mode in (
        Mode(id="architect", description="Designs before code is written", tools=LOOK),
        Mode(id="coder", description="Writes and changes code", tools=LOOK | CHANGE | {Tool.BASH}),
        Mode(id="reviewer", description="Reads a change and says what is wrong with it", tools=LOOK),
        Mode(
            id="debugger",
            description="Finds the cause of a fault and fixes it",
            tools=LOOK | {Tool.EDIT, Tool.MULTI_EDIT, Tool.BASH},
        ),
        Mode(id="tester", description="Writes and runs tests", tools=LOOK | CHANGE | {Tool.BASH}),
        Mode(id="documenter", description="Writes documentation", tools=LOOK | CHANGE),
        Mode(id="refactorer", description="Changes structure, not behaviour", tools=LOOK | CHANGE),
        Mode(id="security", description="Audits for weaknesses", tools=LOOK | {Tool.BASH}),
    )
}
DEFAULT_MODE = "coder"


def mode_named(name: str | None) -> Mode:
    """The mode of that name. Raises ``InvalidInput`` with the list of names."""
    mode = MODES.get(name or DEFAULT_MODE)
    if mode is None:
        raise InvalidInput(
            f"There is no mode {name!r}.",
            hint=f"Choose one of: {', '.join(sorted(MODES))}.",
            data={"field": "mode"},
        )
    return mode
