"""LSP frames from a stream of bytes: tolerant of headers, capped in size, never deaf after a broken frame."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import Enum, auto

from codeforge_ls.model.base import JsonValue

MAX_HEADER = 8 << 10  # bytes of one header block
MAX_BODY = 64 << 20  # bytes of one message
LENGTH = re.compile(rb"content-length[ \t]*:[ \t]*(\d+)[ \t]*$", re.IGNORECASE)
# A raw line end cannot follow these words inside valid JSON, so this is always the start of another frame.
NEXT_FRAME = re.compile(rb"content-length[ \t]*:[ \t]*\d+[ \t]*\r?\n", re.IGNORECASE)
# Its beginning at the end of what has come. Too much given back does no harm: headers are searched, not matched.
_WORD = b"content-length"
NEXT_BEGUN = re.compile(
    rb"(?:content-length[ \t]*:?[ \t]*\d*[ \t]*\r?|%b)\Z"
    % b"|".join(_WORD[:n] for n in range(len(_WORD) - 1, 0, -1)),
    re.IGNORECASE,
)
LONGEST_MARK = 64  # bytes that a match of NEXT_FRAME may reach back into what was searched already


class FrameError(Exception):
    """The stream cannot be followed any further; the session ends with code 1."""


class Fault(Enum):
    """What was wrong with a frame that was skipped."""

    NOT_JSON = auto()
    CUT = auto()


@dataclass(frozen=True)
class Broken:
    """Stands for a frame that could not be read; the frames after it are read again."""

    fault: Fault
    detail: str


@dataclass(frozen=True)
class Body:
    """A message that is valid JSON, whatever it means."""

    value: JsonValue


class FrameReader:
    """Takes bytes as they come and gives the messages in them, one at a time."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._length: int | None = None  # of the body that is being waited for
        self._candidate: int | None = None  # length seen in the header block that is being read
        self._header_bytes = 0
        self._searched = 0

    def feed(self, data: bytes) -> None:
        """Add bytes from the wire."""
        self._buffer += data

    @property
    def is_inside_body(self) -> bool:
        """Whether a message has begun and its end has not come."""
        return self._length is not None

    def next(self) -> Body | Broken | None:
        """The next message; None when more bytes are needed. Raises ``FrameError`` past a cap."""
        if self._length is None and not self._read_header():
            return None
        length = self._length
        if length is None:
            return None
        if len(self._buffer) < length:
            return self._look_for_cut()
        body = bytes(memoryview(self._buffer)[:length])
        del self._buffer[:length]
        self._expect_header()
        return self._parse(body)

    def _expect_header(self) -> None:
        self._length, self._candidate, self._header_bytes, self._searched = None, None, 0, 0

    def _read_header(self) -> bool:
        """Reads header lines up to a blank one. Lines that are none, as after a cut frame, are passed over."""
        while (end := self._buffer.find(b"\n", 0, MAX_HEADER + 1)) >= 0:
            line = bytes(self._buffer[:end]).rstrip(b"\r")
            del self._buffer[: end + 1]
            self._header_bytes += end + 1
            if self._header_bytes > MAX_HEADER:
                break
            if match := LENGTH.search(line):
                self._candidate = _capped(match[1])
            elif not line:
                if self._candidate is not None:
                    self._length = self._candidate
                    return True
                self._header_bytes = 0
        if self._header_bytes + len(self._buffer) > MAX_HEADER:
            raise FrameError(f"a header of more than {MAX_HEADER} bytes")
        return False

    def _look_for_cut(self) -> Broken | None:
        """A body that is still short holds the header of the next message: its length was wrong."""
        match = NEXT_FRAME.search(self._buffer, max(0, self._searched - LONGEST_MARK))
        self._searched = len(self._buffer)
        if match is None:
            return None
        del self._buffer[: match.start()]
        self._expect_header()
        return Broken(Fault.CUT, "message shorter than its Content-Length")

    def _parse(self, body: bytes) -> Body | Broken:
        try:
            return Body(json.loads(body.decode()))
        except (ValueError, RecursionError) as error:
            self._give_back(body)
            return Broken(Fault.NOT_JSON, _reason(error))

    def _give_back(self, body: bytes) -> None:
        """A length that is too large has eaten the beginning of the next frame, or of its header: read it again."""
        match = NEXT_FRAME.search(body + bytes(self._buffer[:LONGEST_MARK])) or NEXT_BEGUN.search(body)
        if match and match.start() < len(body):
            self._buffer[:0] = body[match.start() :]


def _capped(digits: bytes) -> int:
    length = int(digits) if len(digits) <= 12 else MAX_BODY + 1
    if length > MAX_BODY:
        raise FrameError(f"a message of more than {MAX_BODY} bytes")
    return length


def _reason(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at character {error.pos}"
    return "not UTF-8" if isinstance(error, UnicodeDecodeError) else "nested too deeply or number too long"


def encode_frame(message: str) -> bytes:
    """The frame of a message. A lone surrogate, which has no UTF-8 form, becomes a question mark."""
    body = message.encode("utf-8", "replace")
    return b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
