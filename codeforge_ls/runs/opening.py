"""How a run opens: the first checkpoint is taken while the model thinks, and it is shown a map that it may read."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from codeforge_ls.actions.judge import Readable
from codeforge_ls.actions.repo_map import counted_map, readable_map
from codeforge_ls.actions.tool import CodeIndex
from codeforge_ls.checkpoints import Checkpoints
from codeforge_ls.llm.backend import LitellmBackend
from codeforge_ls.model.errors import CodeForgeError
from codeforge_ls.model.llm import Message
from codeforge_ls.model.modes import LOOK, mode_named
from codeforge_ls.model.runs import Run
from codeforge_ls.runs.prompt import first_messages
from codeforge_ls.runs.provenance import mark_of

MAP_BUDGET = 1024  # tokens of the run's model
QUERY_CHARACTERS = 2000  # of the task, which the map is drawn to


@dataclass(frozen=True)
class Opening:
    """Opens runs of one workspace."""

    root: Path
    index: CodeIndex
    checkpoints: Checkpoints
    backend: LitellmBackend

    async def __call__(self, run: Run) -> Sequence[Message]:
        """The first messages of a run."""
        mode = mode_named(run.mode)
        if not mode.tools <= LOOK:
            self.checkpoints.prepare()
        repo_map, readable = None, Readable(self.root, run.layers)
        with contextlib.suppress(CodeForgeError):  # an agent without a map can still search with Grep
            repo_map = await counted_map(
                lambda budget: readable_map(self.index, readable, budget, query=run.task[:QUERY_CHARACTERS]),
                MAP_BUDGET,
                lambda text: self.backend.count_tokens(run.model, text),
            )
        return first_messages(self.root, mode, run.execution, run.task, repo_map, mark_of(run.id))
