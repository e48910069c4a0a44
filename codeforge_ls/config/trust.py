"""Who may decide what: a repository somebody else wrote, and an editor that comes and goes, may not decide all."""

from __future__ import annotations

from collections.abc import Sequence

from codeforge_ls.config.layers import Layer, Severity
from codeforge_ls.config.settings import FIELDS, Mark
from codeforge_ls.model.base import JsonValue

PROFILE, PROFILES = "policy.default", "policy.directory"
MODEL, SESSION, DOOR = "llm", "lsp", "mcp"  # sections

# From strict to loose. Who is not trusted may not choose a looser profile than the person did; "" (chosen by
# circumstances) ranks like editor-interactive, the strictest of what it can become.
INTERACTIVE = "editor-interactive"
LOOSENESS = (
    "plan-readonly",
    INTERACTIVE,
    "headless-safe-sandbox",
    "headless-permissive-sandbox",
    "trusted-mount-autonomous",
)


def trusted_profile(layers: Sequence[Layer]) -> str:
    """``policy.default`` as layers that may decide everything give it, the last one first; empty: none does."""
    chosen = [str(layer.values[PROFILE].value) for layer in layers if PROFILE in layer.values]
    return chosen[-1] if chosen else ""


def withheld(layer: Layer) -> dict[str, JsonValue]:
    """What a workspace's file sets that counts only when a person trusts that file."""
    return {
        path: item.value
        for path, item in layer.values.items()
        if FIELDS[path].has(Mark.TRUSTED) and not is_the_persons_alone(path)
    }


def is_the_persons_alone(path: str) -> bool:
    """Whether no workspace may set it, trusted or not: where policies come from, and a door that is open to more."""
    return path == PROFILES or FIELDS[path].section == DOOR


def restrict_workspace(layer: Layer, trusted: str, *, file_is_trusted: bool = False) -> Layer:
    """The workspace's file without what runs code, sends data, spends money or weakens isolation and audit trail
    (unless a person trusts this very file), and in any case without a looser policy, a place of more policies and a
    door to HTTP."""
    kept = layer.copy()
    for path, item in layer.values.items():
        reason = ""
        if is_the_persons_alone(path):
            reason = "ignored: only your own file, the environment or --set may set this"
        elif FIELDS[path].has(Mark.TRUSTED):
            reason = "" if file_is_trusted else "ignored until you trust this file (`codeforge trust`)"
        elif path == PROFILE and _is_looser(str(item.value), trusted):
            reason = "ignored: a workspace may not choose a looser policy profile than you did"
        if reason:
            del kept.values[path]
            kept.complain(reason, path=path, line=item.line, severity=Severity.WARNING)
    return kept


def restrict_editor(layer: Layer, trusted: str) -> Layer:
    """An editor's options without what holds for everybody, also when that editor is gone.

    The model is the person's choice while they are there. ``lsp`` concerns the one session and is its business.
    """
    kept = layer.copy()
    for path, item in layer.values.items():
        setting = FIELDS[path]
        says_nothing = setting.section == SESSION or (path == PROFILE and item.value == "")
        reason = ""
        if setting.has(Mark.TRUSTED) and setting.section != MODEL:
            reason = "ignored: only your own file, the environment or --set may set this"
        elif setting.has(Mark.IMMUTABLE) and not says_nothing:
            reason = (
                "ignored: it is read when the workspace opens, before any editor is there; set it in a file"
            )
        elif path == PROFILE and not says_nothing and _is_looser(str(item.value), trusted):
            reason = "ignored: an editor may not choose a looser policy profile than your own file does"
        if reason or says_nothing:
            del kept.values[path]
        if reason:
            kept.complain(reason, path=path, severity=Severity.WARNING)
    return kept


def _is_looser(wanted: str, trusted: str) -> bool:
    trusted = trusted or INTERACTIVE
    if wanted in ("", trusted):
        return wanted == ""
    limit = LOOSENESS.index(trusted) if trusted in LOOSENESS else 0
    return wanted not in LOOSENESS[: limit + 1]
