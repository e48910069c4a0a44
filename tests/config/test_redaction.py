"""The filter: every form of a secret goes, at every place where a stream can be cut; all other text stays as it is."""

from __future__ import annotations

import base64
import json
import random
import urllib.parse

import pytest

from codeforge_ls import redaction

KEY = "Zq9/+=key with&odd?chars#77"


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redaction, "_known", redaction._Known([KEY]))


def encoded(before: bytes, after: bytes) -> str:
    return base64.b64encode(before + KEY.encode() + after).decode()


def wrapped(text: str, width: int, gap: str) -> str:
    return gap.join(text[at : at + width] for at in range(0, len(text), width))


# As `base64` and PEM files break lines, as YAML indents them, and in pieces shorter than any form.
WRAPS = ((76, "\n"), (64, "\r\n"), (20, "\n      "), (4, "\n"))
TEXTS = [
    f"the key is {KEY}.",
    f"{KEY}{KEY} {KEY}",
    f"https://user:{urllib.parse.quote(KEY, safe='')}@host/p?key={urllib.parse.quote_plus(KEY)}&x=1",
    json.dumps({"key": KEY, "more": [KEY]}),
    *(f"Basic {encoded(b'u' * n + b':', b'!' * m)}" for n in range(3) for m in range(3)),
    base64.urlsafe_b64encode(b"a" + KEY.encode()).decode(),
    KEY.encode().hex(),
    *(
        f"data:\n{wrapped(encoded(b'u' * n, b'!' * 40), width, gap)}\n"
        for n in (0, 1, 50)
        for width, gap in WRAPS
    ),
    wrapped(KEY.encode().hex(), 2, " "),
]


@pytest.mark.parametrize("text", TEXTS)
def test_it_goes_wherever_the_stream_is_cut(text: str) -> None:
    hidden = redaction.hide(text)
    assert redaction.HIDDEN in hidden
    dense = "".join(hidden.split())
    for form in redaction._known.forms:
        assert form not in hidden
        assert form not in dense
    for cut in range(len(text) + 1):
        stream = redaction.Stream()
        pieces = [stream.feed(text[:cut]), stream.feed(text[cut:]), stream.end()]
        assert "".join(pieces) == hidden
        # No piece that was shown by then holds what only the next piece made a secret.
        assert not any(form.startswith(KEY[:6]) and form[:6] in pieces[0] for form in redaction._known.forms)
    stream = redaction.Stream()
    assert "".join([*map(stream.feed, text), stream.end()]) == hidden


def test_other_text_is_left_alone_and_comes_at_once() -> None:
    code = 'api_key = os.environ["OPENAI_API_KEY"]\ntoken: str = parse_token(text)\npassword = "hunter2-is-a-test"\n'
    assert redaction.hide(code) == code
    stream = redaction.Stream()
    random.seed(7)
    shown, at = "", 0
    while at < len(code):
        step = random.randint(1, 9)
        shown += stream.feed(code[at : at + step])
        at += step
        assert len(shown) >= min(at, len(code)) - len(KEY) * 3
    assert shown + stream.end() == code
    assert redaction.scrub("key-exchange and secretary, a token of love") == (
        "key-exchange and secretary, a token of love"
    )


@pytest.mark.parametrize(
    ("name", "value", "is_secret"),
    [
        ("OPENAI_API_KEY", "sk-1234567890", True), ("GITHUB_TOKEN", "ghp_12345678", True),
        ("AWS_SECRET_ACCESS_KEY", "abc/def+12345", True), ("AWS_ACCESS_KEY_ID", "AKIA12345678", True),
        ("DB_PASSWORD", "hunter22!", True), ("TOKEN", "x" * 20, True),
        ("OPENAI_API_KEY", "short", False), ("SSH_KEY", "/home/ada/.ssh/id", False), ("MY_TOKEN", "production", False),
        ("KEYBOARD", "us-international", False), ("PATH", "/usr/bin:/bin", False),
        ("TOKENIZERS_PARALLELISM", "false123", False),
    ],
)  # fmt: skip
def test_what_counts_as_a_secret(name: str, value: str, is_secret: bool) -> None:
    assert redaction.is_secret(name, value) is is_secret
