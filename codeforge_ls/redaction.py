"""The one filter that keeps secrets out of what is logged, stored, shown and sent. Standard library only.

``hide`` knows values: those of the vault, also in URLs, in JSON, and in base64 and hex however an encoder has wrapped
them. It changes nothing else, so that code reads as it is. ``scrub`` also hides what only looks like a secret; it is
for logs and the words of errors.
"""

from __future__ import annotations

import base64
import json
import re
import urllib.parse
from collections.abc import Iterable, Mapping
from typing import TypeVar

HIDDEN = "[redacted]"
MIN_LENGTH = 8  # characters; shorter values would hide too much of everything else
SPACE = " \t\r\n"
MAX_GAP = (
    8  # characters of space inside of something encoded: a line break and an indent, or columns of a dump
)
GAP = f"[{SPACE}]{{0,{MAX_GAP}}}"
SHORT_WORD = 16  # a value of lower-case letters alone is a word below this
# Names of variables that hold a secret.
SECRET_NAME = re.compile(
    r"(?:^|_)(?:API_?KEY|KEY|TOKEN|SECRET|PASSWORD|PASSWD|ACCESS_KEY_ID|SECRET_[A-Z_]*KEY)\Z", re.IGNORECASE
)
SHAPES = re.compile(
    r"""
      (?P<keep>\b(?:authorization|x-api-key|api[_-]?key|access[_-]?token|auth[_-]?token|token|secret|password|passwd)
        ["']?\s*[:=]\s*["']?(?:(?:bearer|basic|token)\s+)?)[^\s"',;&]{6,}
    | \bbearer\s+[A-Za-z0-9._~+/=-]{6,}
    | (?P<url>://[^\s/:@]{0,256}:)[^\s/@]{1,512}(?=@)
    | \b(?:sk|rk|pk|gsk|xai)-[\w*-]{8,}
    | \bkey-(?=[\w*-]*[\d*])[\w*-]{6,}
    | \b(?:gh[pousr]_|github_pat_|glpat-|xox[abprs]-|hf_)[A-Za-z0-9_-]{10,}
    | \bA(?:KIA|SIA)[A-Z0-9]{16}\b
    | \bAIza[A-Za-z0-9_-]{20,}
    | \beyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}(?:\.[A-Za-z0-9_-]*)?
    | -----BEGIN\ [A-Z ]{0,30}PRIVATE\ KEY-----[\s\S]*?(?:-----END[^\n]*|\Z)
    """,
    re.IGNORECASE | re.VERBOSE,
)

Json = TypeVar("Json")


def is_secret(name: str, value: str) -> bool:
    """Whether a variable holds a secret, and one that can be told from other text. A path is none."""
    if not SECRET_NAME.search(name) or len(value) < MIN_LENGTH or value[0] in "/~":
        return False
    return not (value.isalpha() and value.islower() and len(value) < SHORT_WORD)


def _longest_first(forms: set[str]) -> tuple[str, ...]:
    return tuple(sorted(forms, key=lambda form: (-len(form), form)))


class _Known:
    """The values to hide in this process, in all the forms in which they are looked for, longest first."""

    def __init__(self, values: Iterable[str]) -> None:
        self.values = frozenset(values)
        forms = {form for value in self.values for form in _forms(value)}
        self.forms = _longest_first(forms)
        self.longest = len(self.forms[0]) if self.forms else 0
        self.first = frozenset(form[0] for form in self.forms)
        self.encoded = _longest_first({form for value in self.values for form in _encodings(value)})


_known = _Known(())


def know(values: Iterable[str]) -> None:
    """Hide these too, from now on. A value is never forgotten: what was told before may still come by."""
    global _known  # noqa: PLW0603 - one filter for a process is the point
    fresh = _known.values | {value for value in values if len(value) >= MIN_LENGTH}
    if fresh != _known.values:
        _known = _Known(fresh)


def know_environment(environ: Mapping[str, str]) -> None:
    """Hide what the variables hold that are secrets by their names."""
    know(value for name, value in environ.items() if is_secret(name, value))


def knows_any() -> bool:
    """Whether there is anything to hide."""
    return bool(_known.forms)


def hide(text: str) -> str:
    """The text without the values that are known."""
    for form in _known.forms:
        if form in text:
            text = text.replace(form, HIDDEN)
    return _hide_wrapped(text)


def _hide_wrapped(text: str) -> str:
    dense = text
    for space in SPACE:
        dense = dense.replace(space, "")
    if len(dense) == len(text):
        return text
    for form in _known.encoded:
        if form in dense:  # rarely; a pattern over all of the text would cost far more
            text = re.sub(GAP.join(map(re.escape, form)), HIDDEN, text)
    return text


def hide_all(value: Json) -> Json:
    """The same for every string of a JSON value, keys included."""
    return _hidden(value) if _known.forms else value  # type: ignore[return-value] # the shape stays


def _hidden(value: object) -> object:
    if isinstance(value, str):
        return hide(value)
    if isinstance(value, dict):
        return {hide(str(key)): _hidden(child) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [_hidden(child) for child in value]
    return value


def scrub(text: str) -> str:
    """The text without the values that are known and without what looks like a secret."""
    return SHAPES.sub(_keep_name, hide(text))


def _keep_name(match: re.Match[str]) -> str:
    return (match["keep"] or match["url"] or "") + HIDDEN


class Stream:
    """``hide`` for a text that comes in pieces: what may be the beginning of a secret is held back."""

    def __init__(self) -> None:
        self._held = ""

    def feed(self, piece: str) -> str:
        """What can be shown by now."""
        text = hide(self._held + piece)
        cut = len(text) - _unsure(text)
        self._held = text[cut:]
        return text[:cut]

    def end(self) -> str:
        """The rest: nothing more comes."""
        rest, self._held = self._held, ""
        return rest


def _unsure(text: str) -> int:
    """How many characters at the end may be the beginning of something to hide."""
    for start in range(max(0, len(text) - _known.longest + 1), len(text)):
        if text[start] in _known.first:
            tail = text[start:]
            if any(form.startswith(tail) for form in _known.forms):
                return max(len(tail), _unsure_wrapped(text))
    return _unsure_wrapped(text)


def _unsure_wrapped(text: str) -> int:
    """The same for what an encoder may have wrapped."""
    longest = len(_known.encoded[0]) if _known.encoded else 0
    places: list[int] = []
    for at in range(len(text) - 1, max(-1, len(text) - longest * (MAX_GAP + 1)), -1):
        if text[at] not in SPACE:
            places.append(at)
            if len(places) == longest:
                break
    places.reverse()
    dense = "".join(text[at] for at in places)
    for index, at in enumerate(places):
        if text[at] in _known.first:
            tail = dense[index:]
            if any(form.startswith(tail) for form in _known.encoded):
                return len(text) - at
    return 0


def _forms(value: str) -> set[str]:
    data = value.encode(errors="surrogatepass")
    quoted = urllib.parse.quote(data, safe="")
    lower = re.sub("%[0-9A-F]{2}", lambda match: match[0].lower(), quoted)
    plain = {value, quoted, lower, urllib.parse.quote_plus(data), json.dumps(value)[1:-1]}
    return {form for form in plain if len(form) >= MIN_LENGTH} | _encodings(value)


def _encodings(value: str) -> set[str]:
    data = value.encode(errors="surrogatepass")
    forms = {data.hex(), data.hex().upper()}
    for offset in range(3):  # wherever it stands in what was encoded
        padded = b"\0" * offset + data
        first, last = (offset * 8 + 5) // 6, len(padded) * 8 // 6
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            forms.add(encode(padded).decode()[first:last])
    return {form for form in forms if len(form) >= MIN_LENGTH}
