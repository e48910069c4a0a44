"""Which version of the workspace's file a person trusts, by the hash of its bytes: any change takes the trust away.

The record lies in the user's own folder for that workspace, where neither a repository nor an agent writes.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from pydantic import Field

from codeforge_ls.config.place import workspace_config_dir
from codeforge_ls.config.private_file import replace_private
from codeforge_ls.model.base import Frozen, JsonObject

FILE = "trust.json"
MAX_BYTES = 4096


class FileTrust(Frozen):
    """The workspace's file as it was read last. ``withheld`` are its settings that count only when it is trusted."""

    file: str
    sha256: str = ""
    trusted: bool = False
    withheld: JsonObject = Field(default_factory=dict)


def trust_file(root: Path, environ: Mapping[str, str] | None = None) -> Path:
    """Where the trust in the file of the workspace at ``root`` is kept; it need not exist."""
    return workspace_config_dir(root, environ) / FILE


def trusted_hash(root: Path, environ: Mapping[str, str] | None = None) -> str:
    """The SHA-256 that is trusted; empty where none is, or where the record cannot be read."""
    with (
        contextlib.suppress(OSError, ValueError, AttributeError),
        trust_file(root, environ).open("rb") as file,
    ):
        return str(json.loads(file.read(MAX_BYTES)).get("config.yaml", ""))
    return ""


def write_trust(root: Path, sha256: str | None, environ: Mapping[str, str] | None = None) -> None:
    """Trust the file with that hash and no other; None: trust none. Raises ``OSError``."""
    record = trust_file(root, environ)
    if sha256 is None:
        record.unlink(missing_ok=True)
        return
    replace_private(record, json.dumps({"root": os.path.realpath(root), "config.yaml": sha256}).encode())
