"""Where commands run: confined by bubblewrap, or plainly where nothing confines and the network may stay."""

from __future__ import annotations

from codeforge_ls.sandbox.command import CommandResult, CommandSpec
from codeforge_ls.sandbox.sandbox import Sandbox

__all__ = ["CommandResult", "CommandSpec", "Sandbox"]
