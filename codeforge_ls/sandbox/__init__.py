"""Where commands run: isolated by bubblewrap, Landlock or a container, within limits; plainly if a person says so."""

from __future__ import annotations

from codeforge_ls.sandbox.command import CommandResult, CommandSpec
from codeforge_ls.sandbox.probe import Place, probe, survey
from codeforge_ls.sandbox.sandbox import Sandbox

__all__ = ["CommandResult", "CommandSpec", "Place", "Sandbox", "probe", "survey"]
