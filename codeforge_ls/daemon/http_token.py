"""The token that opens the HTTP door: 32 random bytes in a file that only its owner can read."""

from __future__ import annotations

import os
import re
import secrets
import stat
from pathlib import Path

from codeforge_ls.config.private_file import replace_private
from codeforge_ls.model.errors import Unavailable

TOKEN_BYTES = 32
FORM = re.compile(rb"[A-Za-z0-9_-]{43}\n?")  # 32 bytes in URL-safe base64
RENEW = "`codeforge mcp rotate` writes a new one."


class TokenFile:
    """The file. Its path may be shown, its content goes nowhere but into it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read_or_make(self) -> bytes:
        """The token, made when there is none. Raises ``Unavailable`` when others could have read or written it."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return self.replace()
        except OSError as error:
            raise Unavailable(
                f"The token file {self.path} cannot be read: {error.strerror}.", hint=RENEW
            ) from error
        with os.fdopen(descriptor, "rb") as file:
            facts = os.fstat(descriptor)
            if not stat.S_ISREG(facts.st_mode) or facts.st_uid != os.getuid() or facts.st_mode & 0o077:
                raise Unavailable(f"The token file {self.path} is not yours alone (0600).", hint=RENEW)
            content = file.read(100)
        if not FORM.fullmatch(content):
            raise Unavailable(f"The file {self.path} does not hold a token.", hint=RENEW)
        return content.rstrip(b"\n")

    def replace(self) -> bytes:
        """Write a new token beside the file and rename it into place; the old one is worth nothing from then on."""
        token = secrets.token_urlsafe(TOKEN_BYTES).encode()
        try:
            replace_private(self.path, token + b"\n")
        except OSError as error:
            raise Unavailable(
                f"The token file {self.path} cannot be written: {error.strerror}.",
                hint="Make room or permission there, then repeat it.",
            ) from error
        return token
