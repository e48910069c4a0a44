"""The index of a workspace: files, symbols, references, repo map and search. Heavy work runs in its workers."""

from codeforge_ls.index.service import Index

__all__ = ["Index"]
