"""What one run, or the runs of one plan, take away from their policy on top of the profile (row POL-21)."""

from __future__ import annotations

from pydantic import Field, field_validator

from codeforge_ls.model.actions import Tool
from codeforge_ls.model.base import Frozen
from codeforge_ls.model.limits import ResourceLimits
from codeforge_ls.model.policy import (
    ANY_TOOL,
    PermissionRule,
    PolicyLayer,
    PolicyMode,
    PolicyProfile,
    PolicyScope,
    QualityGate,
    Termination,
)

OTHERS = "mcp:"  # a tool of another server, which may not be known yet


class Tightening(Frozen):
    """It takes away and never gives. 0 leaves a limit as it is."""

    rules: tuple[PermissionRule, ...] = Field(default=(), max_length=100)
    protected_paths: tuple[str, ...] = Field(default=(), max_length=100)
    quality_gate: QualityGate = QualityGate()
    termination: Termination = Termination()
    resource_limits: ResourceLimits = ResourceLimits()

    @field_validator("rules")
    @classmethod
    def _of_known_tools(cls, rules: tuple[PermissionRule, ...]) -> tuple[PermissionRule, ...]:
        """A rule for a tool that does not exist would tighten nothing, and nobody would notice."""
        for name in (rule.specifier.tool for rule in rules):
            if name not in (*Tool, ANY_TOOL) and not name.startswith(OTHERS):
                raise ValueError(f"there is no tool {name[:80]!r}; there are {', '.join(Tool)}")
        return rules

    def as_layer(self) -> PolicyLayer:
        """As one more layer, which has no say where none of its rules matches."""
        parts = {name: getattr(self, name) for name in Tightening.model_fields}
        return PolicyLayer(
            profile=PolicyProfile(name="run", mode=PolicyMode.DELEGATE, **parts), scope=PolicyScope.RUN
        )
