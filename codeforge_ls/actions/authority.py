"""Which policy is in force for whom: the default profile, and why a foreign agent cannot pick a looser one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from codeforge_ls.approvals.broker import Broker
from codeforge_ls.model.actions import Actor, ActorKind
from codeforge_ls.model.policy import PolicyLayer, PolicyScope
from codeforge_ls.policy.always import what_can_ask
from codeforge_ls.policy.library import HEADLESS, INTERACTIVE, PolicyLibrary


@dataclass(frozen=True)
class Authority:
    """Resolves profiles. ``configured`` is the name set by ``policy.default``, empty for the automatic choice;
    ``trusted`` the name that the person's own file, the environment or ``--set`` gives, whatever a repository or
    an attached editor adds."""

    library: PolicyLibrary
    broker: Broker
    configured: Callable[[], str]
    trusted: Callable[[], str]

    def revision(self) -> str:
        """The digest of every policy that is loaded: another one, and what was approved before is asked again.

        A rule that a person added by "always" is not in it: it can only answer questions, so what was asked under the
        other policies is asked or allowed still."""
        digest = hashlib.blake2b(self.configured().encode(), digest_size=16)
        for name in self.library.names():
            for layer in self.library.get(name):
                always = layer.scope is PolicyScope.ALWAYS
                digest.update((what_can_ask(layer) if always else layer.model_dump_json()).encode())
        return digest.hexdigest()

    def default_profile(self, actor: Actor) -> str:
        """``policy.default``; else ``editor-interactive`` where an editor is attached or a foreign agent asks;
        else ``headless-safe-sandbox``."""
        if name := self.configured():
            return name
        foreign = actor.kind is ActorKind.MCP
        return INTERACTIVE if foreign or self.broker.reaches(ActorKind.EDITOR) else HEADLESS

    def layers(self, actor: Actor, profile: str | None = None) -> tuple[PolicyLayer, ...]:
        """The layers for an actor; the strictest answer of all of them counts.

        People may name any profile. A foreign agent may name one too, but the default stays on top of it, so it
        can only tighten; and on top of a default that nobody trusted has chosen stays ``editor-interactive``.
        Raises ``NotFound`` for an unknown name.
        """
        default = self.default_profile(actor)
        names = [profile or default]
        if actor.kind is ActorKind.MCP:
            names += [default, self.trusted() or INTERACTIVE]
        found = [layer for name in dict.fromkeys(names) for layer in self.library.get(name)]
        return tuple({id(layer): layer for layer in found}.values())  # some stand on every profile
