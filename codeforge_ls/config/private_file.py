"""A small file that is a person's own: replaced whole or not at all, and read by nobody else."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def replace_private(path: Path, content: bytes) -> None:
    """Write beside the file, 0600, and rename it into place once it is on disk; a new folder is 0700. Raises
    ``OSError``, and then the file is as it was."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    beside = path.with_name(f".{secrets.token_hex(8)}.codeforge")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
