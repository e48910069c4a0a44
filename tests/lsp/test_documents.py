"""Documents against a naive reference: line ends, encodings, versions, stale marks, speed, and edits of open ones."""

from __future__ import annotations

import asyncio
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codeforge_ls.lsp.documents import Document, Encoding, OutOfStep, sanitised, split_lines
from codeforge_ls.lsp.edits import smallest_edit
from codeforge_ls.lsp.places import Places, file_uri

ALPHABET = "ab\n\r\té\u20ac\U0001f600\f\v\x1c\x85\u2028\u2029\0"
TEXT = st.text(alphabet=ALPHABET, max_size=40)
NUMBER = st.one_of(st.integers(0, 8), st.integers(0, 2**31 - 1))
CHANGE = st.tuples(NUMBER, NUMBER, NUMBER, NUMBER, TEXT)


def document(text: str, encoding: Encoding = Encoding.UTF16, version: int | None = 0) -> Document:
    return Document("file:///w/a", "a", "x", version, encoding, split_lines(text))


def change(start: tuple[int, int], end: tuple[int, int], text: str) -> dict:
    places = {
        name: {"line": line, "character": char} for name, (line, char) in (("start", start), ("end", end))
    }
    return {"range": places, "text": text}


def naive_offset(text: str, line: int, character: int, encoding: Encoding) -> int:
    """The offset as the specification words it, one character at a time."""
    starts = [0] + [match.end() for match in re.finditer(r"\r\n|\n|\r", text)]
    if line >= len(starts):
        return len(text)
    offset, counted = starts[line], 0
    while offset < len(text) and text[offset] not in "\r\n":
        size = {"utf-8": len(text[offset].encode()), "utf-16": len(text[offset].encode("utf-16-le")) // 2}
        counted += size.get(encoding.value, 1)
        if counted > character:
            break
        offset += 1
    return offset


@settings(max_examples=400, deadline=None)
@given(TEXT, st.lists(CHANGE, max_size=6), st.sampled_from(Encoding))
def test_edits_agree_with_a_naive_reference(text, changes, encoding):
    edited, expected = document(text, encoding), text
    for number, (line, char, end_line, end_char, new) in enumerate(changes):
        first, last = sorted([(line, char), (end_line, end_char)])
        begin, end = (naive_offset(expected, *place, encoding) for place in (first, last))
        edited.change(number + 1, [change(first, last, new)])
        expected = expected[:begin] + new + expected[end:]
        assert edited.text == expected
        assert edited.lines == split_lines(expected)
        for offset in (0, len(expected) // 2, len(expected)):
            place = edited.position(offset)
            inside = expected[offset - 1 : offset + 1] == "\r\n"
            if not inside:
                assert naive_offset(expected, place["line"], place["character"], encoding) == offset


@settings(max_examples=400, deadline=None)
@given(TEXT, TEXT, TEXT, TEXT, st.sampled_from(Encoding))
def test_the_smallest_edit_turns_one_text_into_the_other(head, old, new, tail, encoding):
    before, after = head + old + tail, head + new + tail
    begin, end, text = smallest_edit(before, after)
    assert before[:begin] + text + before[end:] == after
    edited = document(before, encoding)
    places = [edited.position(offset) for offset in (begin, end)]
    start, stop = [(place["line"], place["character"]) for place in places]
    edited.change(1, [change(start, stop, text)])
    assert edited.text == after


def test_line_ends_are_the_protocol_s_only():
    assert split_lines("a\rb\r\nc\nd\fe\x0bf\x1cg\x85h\u2028i\u2029j") == [
        "a\r", "b\r\n", "c\n", "d\fe\x0bf\x1cg\x85h\u2028i\u2029j",
    ]  # fmt: skip
    assert split_lines("") == [""]
    edited = document("a\u2028b\nc")
    edited.change(1, [change((1, 0), (1, 1), "X")])
    assert edited.text == "a\u2028b\nX"
    edited = document("abc")
    edited.change(1, [change((0, 99), (0, 99), "X")])
    assert edited.text == "abcX"
    emoji = document("\U0001f600x")
    emoji.change(1, [change((0, 1), (0, 2), "")])  # the middle of a pair is its start
    assert emoji.text == "x"
    assert sanitised("a\ud800b") == "a\ufffdb"


@pytest.mark.parametrize(
    "bad",
    [
        [change((1, 0), (0, 0), "x")],
        [change((-1, 0), (0, 0), "x")],
        [change((0, 2**31), (0, 2**31), "x")],
        [{"range": {"start": {"line": "0", "character": 0}}, "text": "x"}],
        [{"range": 5, "text": "x"}],
        [{"text": None}],
        [5],
        None,
    ],
)
def test_a_change_that_cannot_be_applied_marks_the_document_stale_until_it_is_sent_whole(bad):
    edited = document("ab\ncd")
    with pytest.raises(OutOfStep):
        edited.change(1, bad)
    assert edited.stale
    edited.change(2, [change((0, 0), (0, 0), "lost")])  # said once, not on every key
    assert edited.text == "ab\ncd"
    edited.change(3, [{"text": "new\n"}])
    assert (edited.text, edited.stale, edited.version) == ("new\n", "", 3)


def test_versions_that_do_not_rise_mark_it_stale_and_none_is_no_version():
    edited = document("ab", version=5)
    edited.change(9, [change((0, 0), (0, 0), "x")])  # gaps are allowed
    with pytest.raises(OutOfStep):
        edited.change(9, [change((0, 0), (0, 0), "y")])
    assert edited.text == "xab"
    unversioned = document("ab")
    unversioned.change(None, [change((0, 0), (0, 0), "x")])
    assert (unversioned.text, unversioned.version, unversioned.stale) == ("xab", None, "")


@pytest.mark.parametrize(
    ("text", "line", "limit"),
    [
        ("x" * 39 + "\n", 5000, 0.0002),
        ("é\U0001f600" * 20 + "\r\n", 5000, 0.0002),
        ("é" * 1_000_000, 0, 0.005),
        ("\U0001f600" * 500_000, 0, 0.005),
        ("x" * 1_000_000, 0, 0.005),
    ],
)
def test_one_change_costs_little(text, line, limit):
    edited = document(text * 10_000 if line else text)
    rounds = 200 if line else 10
    begun = time.process_time()
    for number in range(rounds):
        edited.change(number + 1, [change((line, 20), (line, 20), "é")])
    each = (time.process_time() - begun) / rounds
    assert each <= limit


def test_paths_and_uris_of_a_workspace(tmp_path):
    root = tmp_path.resolve() / "my work"
    root.mkdir()
    link = tmp_path / "link"
    link.symlink_to(root)
    places = Places(root, str(link))
    assert places.uri("a b/é.py") == file_uri(f"{link}/a b/é.py")
    for spelled in (f"{link}/a b/é.py", f"{root}/a b/é.py", f"{root}/x/../a b/é.py"):
        assert places.relative(file_uri(spelled)) == "a b/é.py"
        assert places.relative("file://" + spelled) == "a b/é.py"
    for outside in (
        "file:///etc/passwd",
        f"file://{root}/../x",
        "untitled:1",
        f"file://{root}%00/x",
        "",
        f"file://{root}",
    ):
        assert places.relative(outside) is None


async def test_a_folder_reached_through_a_symlink_is_the_same_workspace(connect, host, tmp_path):
    (host.root / "sub").mkdir()
    link = tmp_path.parent / f"{tmp_path.name}-link"
    link.symlink_to(host.root)
    editor = await connect()
    await editor.initialize(f"{link}/sub")
    item = {"uri": f"file://{link}/sub/a.py", "languageId": "python", "version": 1, "text": "a"}
    editor.notify("textDocument/didOpen", {"textDocument": item})
    assert await editor.is_alive()
    assert host.place.documents.find("sub/a.py")[1].text == "a"
    assert not editor.all("window/logMessage")


async def test_open_documents_are_read_and_edited_through_the_editor(editor, host):
    uri, hub = f"file://{host.root}/a%20b.py", host.place.documents
    text = "one\r\ntwo é\U0001f600 three\r\n"
    item = {"uri": uri, "languageId": "python", "version": 4, "text": text}
    editor.notify("textDocument/didOpen", {"textDocument": item})
    assert await editor.is_alive()
    source, seen = hub.find("a b.py")
    assert (seen.version, seen.text, list(source.paths())) == (4, text, ["a b.py"])
    assert hub.find("other.py") is None

    edits: list[dict] = []

    def obey(params: dict) -> dict:
        changes = params["edit"]["documentChanges"][0]
        edits.append(params)
        new = [{"range": edit["range"], "text": edit["newText"]} for edit in changes["edits"]]
        version = changes["textDocument"]["version"] + 1
        editor.notify(
            "textDocument/didChange",
            {"textDocument": {"uri": uri, "version": version}, "contentChanges": new},
        )
        return {"applied": True}

    editor.answers["workspace/applyEdit"] = obey
    wanted = "one\r\ntwo é\U0001f600 3\r\n"
    assert await source.apply("a b.py", 4, wanted)
    assert hub.find("a b.py")[1].text == wanted
    edit = edits[0]["edit"]["documentChanges"][0]["edits"][0]
    start = {"line": 1, "character": 8}
    assert edit["range"] == {"start": start, "end": {"line": 1, "character": 13}}
    assert edits[0]["edit"]["changeAnnotations"][edit["annotationId"]]["label"] == "CodeForge: edit a b.py"
    assert await source.apply("a b.py", 5, wanted)  # nothing to do
    assert len(edits) == 1

    assert not await source.apply("a b.py", 4, "old version")
    assert not await source.apply("closed.py", 5, "x")
    editor.answers["workspace/applyEdit"] = lambda _: {"applied": False, "failureReason": "no"}
    assert not await source.apply("a b.py", 5, "refused")
    editor.answers["workspace/applyEdit"] = lambda _: 5
    assert not await source.apply("a b.py", 5, "nonsense")
    editor.answers["workspace/applyEdit"] = lambda _: {"applied": True}
    assert not await source.apply("a b.py", 5, "said but not done")  # after waiting 3 s for it
    assert hub.find("a b.py")[1].text == wanted

    bad = change((9, 9), (0, 0), "x")
    editor.notify(
        "textDocument/didChange", {"textDocument": {"uri": uri, "version": 6}, "contentChanges": [bad]}
    )
    assert "out of step" in (await editor.called("window/logMessage"))["params"]["message"]
    assert not await source.apply("a b.py", 6, "stale")
    editor.notify("textDocument/didClose", {"textDocument": {"uri": uri}})
    assert await editor.is_alive()
    assert hub.find("a b.py") is None


async def test_an_edit_is_not_tried_where_the_editor_counts_no_versions(connect, host):
    editor = await connect()
    await editor.initialize(host.root, capabilities={"workspace": {"applyEdit": True}})
    uri = f"file://{host.root}/a.py"
    item = {"uri": uri, "languageId": "python", "version": 1, "text": "a"}
    editor.notify("textDocument/didOpen", {"textDocument": item})
    assert await editor.is_alive()
    assert not await host.place.documents.find("a.py")[0].apply("a.py", 1, "b")
    assert not editor.all("workspace/applyEdit")


async def test_changes_reach_the_index_gathered(editor, host):
    watching = await editor.called("client/registerCapability")
    registration = watching["params"]["registrations"][0]
    assert registration["method"] == "workspace/didChangeWatchedFiles"
    assert registration["registerOptions"]["watchers"][0]["globPattern"] == {
        "baseUri": f"file://{host.root}", "pattern": "**/*",
    }  # fmt: skip
    uri = f"file://{host.root}/a.py"
    item = {"uri": uri, "languageId": "python", "version": 1, "text": "a"}
    editor.notify("textDocument/didOpen", {"textDocument": item})
    for version in range(2, 30):
        key = change((0, 0), (0, 0), "b")
        editor.notify(
            "textDocument/didChange",
            {"textDocument": {"uri": uri, "version": version}, "contentChanges": [key]},
        )
    files = [f"src/f{number}.py" for number in range(10_000)]
    changes = [{"uri": f"file://{host.root}/{name}", "type": 2} for name in (*files, ".git/index", "../x")]
    begun = time.monotonic()
    editor.notify("workspace/didChangeWatchedFiles", {"changes": changes})
    assert await editor.is_alive()
    assert time.monotonic() - begun < 1
    async with asyncio.timeout(5):
        while len(host.place.index.told) < 2:
            await asyncio.sleep(0.02)
    assert host.place.index.told == [("a.py", "b" * 28 + "a"), ("files", sorted(files))]
    editor.notify("textDocument/didSave", {"textDocument": {"uri": uri}})
    editor.notify("textDocument/didClose", {"textDocument": {"uri": uri}})
    async with asyncio.timeout(5):
        while len(host.place.index.told) < 4:
            await asyncio.sleep(0.02)
    assert host.place.index.told[2:] == [("a.py", None), ("files", ["a.py"])]
