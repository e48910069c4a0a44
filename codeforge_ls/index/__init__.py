"""The index of a workspace: files, symbols, references, repo map and search. Heavy work runs in its workers."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from codeforge_ls.index.service import Index

__all__ = ["Index"]


def __getattr__(name: str) -> object:
    # Late, because parsers and segment writers are modules of this package and must not load the daemon's side.
    if name == "Index":
        from codeforge_ls.index.service import Index

        return Index
    raise AttributeError(name)
