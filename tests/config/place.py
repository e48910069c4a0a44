"""Where settings of a test are written."""

from __future__ import annotations

from pathlib import Path


class Place:
    """A workspace and a user's configuration folder."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "work"
        self.user = folder / "home" / "codeforge" / "config.yaml"
        self.workspace = self.root / ".codeforge" / "config.yaml"
        self.env = {"XDG_CONFIG_HOME": str(folder / "home")}
        for file in (self.user, self.workspace):
            file.parent.mkdir(parents=True)
