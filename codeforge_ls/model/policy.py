"""Policy profiles: modes, rules, limits, and the decision with its reason (rows POL-1..11, POL-22)."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from codeforge_ls.model.base import Frozen
from codeforge_ls.model.limits import NetworkMode, ResourceLimits

__all__ = [
    "Decision", "NetworkMode", "PermissionRule", "PolicyDecision", "PolicyLayer", "PolicyMode", "PolicyProfile",
    "PolicyScope", "QualityGate", "ResourceLimits", "Termination", "ToolCall", "ToolSpecifier",
]  # fmt: skip


class PolicyMode(StrEnum):
    """What happens when no rule matched: plan denies, default asks, acceptEdits and delegate allow."""

    DEFAULT = "default"
    ACCEPT_EDITS = "acceptEdits"
    PLAN = "plan"
    DELEGATE = "delegate"


class Decision(StrEnum):
    """The three answers. ``ask`` waits for a person and means deny when there is none."""

    ALLOW = "allow"
    ASK = "ask"
    DENY = "deny"

    @property
    def strictness(self) -> int:
        """0 allow, 1 ask, 2 deny: the strictest of several layers wins."""
        return {Decision.ALLOW: 0, Decision.ASK: 1, Decision.DENY: 2}[self]


class ActionClass(StrEnum):
    """What kind of thing an action is, where a policy says who may answer for it."""

    EDIT = "edit"
    COMMAND = "command"
    RESTORE = "restore"


ANY_TOOL = "*"


class ToolSpecifier(Frozen):
    """Which tool a rule speaks of; ``sub_pattern`` is a glob on the command line."""

    tool: str = Field(min_length=1, description="Exact tool name, mcp:server:tool, or * for all")
    sub_pattern: str | None = Field(default=None, description="Glob on the command line, such as git log*")


class PermissionRule(Frozen):
    """One rule. It applies only if specifier, path lists and command lists all match; else the next is tried."""

    specifier: ToolSpecifier
    decision: Decision
    path_allow: tuple[str, ...] = Field(
        default=(), description="Globs: the rule is about these paths only; ** is any number of folders"
    )
    path_deny: tuple[str, ...] = Field(default=(), description="Globs: the rule is not about these paths")
    command_allow: tuple[str, ...] = Field(
        default=(), description="Words a command begins with, such as git log: the rule is about these only"
    )
    command_deny: tuple[str, ...] = Field(
        default=(), description="Words a command begins with: the rule is not about these"
    )
    command_exact: tuple[str, ...] = Field(
        default=(), description="Whole command lines, compared as text; a person has read them to the end"
    )
    reason: str = Field(default="", description="Shown with every decision of this rule")
    match: tuple[str, ...] = Field(
        default=(), description="Commands or paths that must match; tested at load"
    )
    not_match: tuple[str, ...] = Field(
        default=(), description="Commands or paths that must not; tested at load"
    )


class QualityGate(Frozen):
    """What must hold before a run counts as done."""

    require_tests_pass: bool = False
    require_lint_pass: bool = False
    rollback_on_gate_fail: bool = False


class Termination(Frozen):
    """Limits of a run; 0 means none; a limit triggers when the counter is >= the value."""

    max_steps: int = Field(default=0, ge=0)
    timeout_seconds: float = Field(default=0, ge=0)
    max_cost: float = Field(default=0, ge=0, description="USD")
    stall_detection: bool = False
    stall_threshold: int = Field(default=5, ge=0)


PROFILE_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"


class PolicyProfile(Frozen):
    """A named set of rules, limits and gates."""

    name: str = Field(min_length=1, pattern=PROFILE_NAME)
    description: str = ""
    mode: PolicyMode = Field(default=PolicyMode.DEFAULT, description="What holds where no rule matched")
    rules: tuple[PermissionRule, ...] = Field(default=(), description="The first that matches decides")
    protected_paths: tuple[str, ...] = Field(default=(), description="Added to the built-in secrets guard")
    elicitation_may_approve: tuple[ActionClass, ...] | None = Field(
        default=None,
        description="What a foreign agent's own client may answer (MCP elicitation) while no editor is attached; "
        "not said: other layers decide, and nothing where none does",
    )
    quality_gate: QualityGate = QualityGate()
    termination: Termination = Termination()
    resource_limits: ResourceLimits = ResourceLimits()


class PolicyScope(StrEnum):
    """Where the deciding rule came from.

    ``protected`` is the built-in guard, ``managed`` the machine's administrator, ``always`` what the person
    allowed for good in this workspace, ``person`` an order that a person gave directly.
    """

    PROTECTED = "protected"
    MANAGED = "managed"
    ALWAYS = "always"
    USER = "user"
    PROJECT = "project"
    PRESET = "preset"
    RUN = "run"
    PERSON = "person"


class PolicyLayer(Frozen):
    """A profile together with where it came from. Layers are evaluated each; the strictest answer wins.

    In a layer of scope ``always`` only rules that match count: one that allows answers the questions of the user's,
    the project's and the preset's layers, one that refuses tightens like any other.
    """

    profile: PolicyProfile
    scope: PolicyScope = PolicyScope.PRESET
    source: str = Field(default="", description="File the profile was read from")
    rule_lines: tuple[int, ...] = Field(default=(), description="Line of each rule in that file, from 1")
    mode_line: int = Field(default=0, description="Line of the mode, or of the name where none is written")

    def line_of(self, index: int) -> int:
        """The line in ``source`` of a rule, of the mode for -1; 0 where it is not known."""
        if index == -1:
            return self.mode_line
        return self.rule_lines[index] if 0 <= index < len(self.rule_lines) else 0


class ToolCall(Frozen):
    """What a policy judges: the tool, and the command or the path it names."""

    tool: str
    command: str | None = None
    path: str | None = None


class PolicyDecision(Frozen):
    """The answer and why. ``rule_index`` is -1 for the mode's fallback and -2 for the built-in guard."""

    decision: Decision
    profile: str
    scope: PolicyScope
    rule_index: int
    matched_rule: PermissionRule | None = None
    file: str = Field(default="", description="The file of the rule; empty for the built-in guard")
    line: int = Field(default=0, description="Its line, from 1; 0 where no line is to blame")
    reason: str

    @property
    def place(self) -> str:
        """Where to look it up, for people: ``file:line``, the file, or nothing."""
        return f"{self.file}:{self.line}" if self.file and self.line else self.file
