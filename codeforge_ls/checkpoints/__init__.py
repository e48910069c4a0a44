"""Snapshots of the whole workspace in a shadow repository of our own, and their exact restore."""

from codeforge_ls.checkpoints.service import Checkpoints, WriteFile

__all__ = ["Checkpoints", "WriteFile"]
