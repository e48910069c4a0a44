"""How commands run: the mode and the limits that settings, policies and a caller's wish come to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from codeforge_ls.config import SandboxSettings
from codeforge_ls.model.actions import Actor
from codeforge_ls.model.limits import ExecMode, Execution, ResourceLimits
from codeforge_ls.model.policy import PolicyLayer
from codeforge_ls.policy.library import effective_limits
from codeforge_ls.sandbox import Sandbox
from codeforge_ls.sandbox.limits import resolved


@dataclass(frozen=True)
class Executions:
    """Resolved from the ``settings`` as they are at each call."""

    settings: Callable[[], SandboxSettings]
    sandbox: Sandbox

    def of(self, layers: Sequence[PolicyLayer]) -> Execution:
        """For a command of nobody's run."""
        return resolved(self.settings(), None, effective_limits(layers)[2])

    def wished(
        self,
        actor: Actor,
        layers: Sequence[PolicyLayer],
        mode: ExecMode | None,
        limits: ResourceLimits | None,
    ) -> Execution:
        """For the commands of a run. Who is no person can only tighten. Raises ``Unavailable`` for a mode that is not
        to be had here."""
        policy = effective_limits(layers)[2]
        found = resolved(self.settings(), mode, policy, limits, only_tighten=not actor.is_person)
        self.sandbox.require(found.mode)
        return found
