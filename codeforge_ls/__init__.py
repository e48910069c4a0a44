"""CodeForge: a language server that knows the repository, gates every agent and can always undo."""

__version__ = "0.1.0"
