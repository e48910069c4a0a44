"""All tools, and those that the built-in agent is given."""

from __future__ import annotations

from typing import Any

from codeforge_ls.actions.bash import BASH
from codeforge_ls.actions.edit import EDIT
from codeforge_ls.actions.glob import GLOB
from codeforge_ls.actions.grep import GREP
from codeforge_ls.actions.multi_edit import MULTI_EDIT
from codeforge_ls.actions.read import READ
from codeforge_ls.actions.repo_map import REPO_MAP
from codeforge_ls.actions.restore import RESTORE
from codeforge_ls.actions.search import SEARCH
from codeforge_ls.actions.tool import ToolKind
from codeforge_ls.actions.write import WRITE

# A list of tools with different argument models: each one checks its own.
AGENT_TOOLS: tuple[ToolKind[Any], ...] = (READ, GLOB, GREP, SEARCH, REPO_MAP, EDIT, MULTI_EDIT, WRITE, BASH)
ALL_TOOLS: tuple[ToolKind[Any], ...] = (*AGENT_TOOLS, RESTORE)
