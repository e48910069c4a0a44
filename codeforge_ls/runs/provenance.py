"""Where a text came from: what a model reads of the repository, of tools or the web is marked as nobody's word.

A mark carries a number of the run, so that no text written before can end it; one that repeats it is broken up.
"""

from __future__ import annotations

import hashlib

from codeforge_ls.actions.tool import clip
from codeforge_ls.model.actions import Applied, Outcome
from codeforge_ls.model.policy import PolicyScope

NAME = "untrusted"


def mark_of(run_id: str) -> str:
    """The word that opens and closes the marks of this run."""
    return f"{NAME}-{hashlib.blake2b(run_id.encode(), digest_size=4).hexdigest()}"


def marked(text: str, source: str, mark: str) -> str:
    """The text between marks that say what it is."""
    return f'<{mark} source="{source}">\n{text.replace(mark, f"{NAME}-?")}\n</{mark}>'


def as_text(applied: Applied, most: int, source: str, mark: str) -> str:
    """The result of an action as the model reads it, at most so many characters of it. Our own refusals are not
    marked: what they say is to be followed, unless a project's policy put it into words."""
    text = clip(applied.output, most)
    if applied.outcome is Outcome.DENIED:
        by_project = applied.decision is not None and applied.decision.scope is PolicyScope.PROJECT
        return f"DENIED: {marked(text, 'policy of the project', mark) if by_project else text}"
    head = "" if applied.outcome is Outcome.APPLIED else f"{applied.outcome.value.upper()}: "
    return f"{head}{marked(text, source, mark)}" if text else f"{head}Done."
