"""Ranking of hits, filters, lookups, and the repo map: its budget, its order, and networkx as the oracle of ranks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import bm25s
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from codeforge_ls.index.bm25 import K1, B, Collection
from codeforge_ls.index.chunks import Chunk
from codeforge_ls.index.extract import ChunkRow, pack_bags, pack_chunks, unpack_chunks
from codeforge_ls.index.lexical import invert
from codeforge_ls.index.repomap import Entry, estimate_tokens, pack
from codeforge_ls.index.tokens import forms, raw_words, split_word, tokens
from tests.index.conftest import MakeIndex, make_repository

SHOP = {
    "shop/http_client.py": "class HttpClient:\n    def send_request(self, url):\n        return open_socket(url)\n",
    "shop/retry.py": "from shop.http_client import HttpClient\n\ndef retry_request(client: HttpClient, url):\n"
    "    # try again after a failed request\n    return client.send_request(url)\n",
    "shop/pool.py": "from shop.http_client import HttpClient\n\ndef make_pool():\n    return [HttpClient()]\n",
    "tests/test_http_client.py": "from shop.http_client import HttpClient\n\ndef test_client():\n"
    "    HttpClient().send_request('x')  # HttpClient request client http\n",
    "docs/guide.md": "# Guide\n\nThe HttpClient sends a request; HttpClient retries.\n",
    "web/httpClient.ts": "export function parseUserName(raw: string) { return raw.trim() }\n",
}


async def test_definitions_and_names_win_over_noise(tmp_path: Path, make_index: MakeIndex) -> None:
    index = await make_index(make_repository(tmp_path / "repo", SHOP))
    symbol = (await index.search("HttpClient")).hits
    assert (symbol[0].path, symbol[0].symbol, symbol[0].kind) == (
        "shop/http_client.py",
        "HttpClient",
        "class",
    )
    order = [hit.path for hit in (await index.search("http client request", group_by="file")).hits]
    assert order[0] == "shop/http_client.py"
    assert len(order) == len(set(order))
    assert order.index("tests/test_http_client.py") > order.index("shop/http_client.py")
    assert (await index.search("user name parse")).hits[0].path == "web/httpClient.ts"
    assert (await index.search("send_request")).hits[0].symbol in {"send_request", "HttpClient"}
    only = await index.search("client", path_glob="*.ts")
    assert {hit.path for hit in only.hits} == {"web/httpClient.ts"}
    inside = await index.search("request", path_glob="shop/**", limit=1)
    assert len(inside.hits) == 1
    assert inside.hits[0].path.startswith("shop/")
    assert (await index.search("zzzunknownword")).hits == ()
    assert all(hit.score > 0 and hit.text for hit in symbol)
    assert inside.legs in {("bm25",), ("bm25", "vectors")}
    assert (inside.index.percent, inside.index.stale_files) == (100, 0)


async def test_what_a_text_names_or_lists_speaks_for_a_file(tmp_path: Path, make_index: MakeIndex) -> None:
    words = (
        "def handle(request):\n    # request, client and pool: request after request\n    return request\n"
    )
    types = "# A pool of clients.\nclass Pool:\n    pass\n"
    files = {**SHOP, "shop/talk.py": words * 3, "shop/deep/pool.py": types}
    files["shop/retryBudgetTimeout.py"] = "LEFT = 3\n"
    index = await make_index(make_repository(tmp_path / "repo", files))
    trace = (
        "the request fails\nTraceback (most recent call last):\n"
        '  File "/srv/app/shop/pool.py", line 4, in handle\n    request client pool'
    )
    by_file = await index.search(trace, group_by="file", explain=True)
    assert by_file.hits[0].path == "shop/pool.py"
    assert "path" in (by_file.hits[0].explain or {})["rewards"]
    named = await index.search("fix: request in httpClient is wrong", group_by="file", explain=True)
    rewards = {hit.path: (hit.explain or {})["rewards"] for hit in named.hits}
    assert "named" in rewards["shop/http_client.py"]
    assert "named" not in rewards["shop/talk.py"]
    issue = "Restore what was\n\nA retry must keep its budget when there is a time-out."
    spread = await index.search(issue, group_by="file", explain=True)
    assert spread.hits[0].path == "shop/retryBudgetTimeout.py"
    assert "words of the file name" in (spread.hits[0].explain or {})["rewards"]
    # A capital in a sentence means the type, where a file is called like it.
    mentioned = await index.search("what the Pool of clients is for", explain=True)
    assert mentioned.hits[0].path == "shop/deep/pool.py"
    assert "defines the name" in (mentioned.hits[0].explain or {})["rewards"]


async def test_a_name_that_every_file_defines_tells_no_file(tmp_path: Path, make_index: MakeIndex) -> None:
    files = {
        f"src/Part{at}.cs": f"namespace MessagePack {{\n    class Part{at} {{ }}\n}}\n" for at in range(12)
    }
    codec = "class Lz4Codec { /* compress a MessagePack payload by blocks */ }\n"
    index = await make_index(make_repository(tmp_path / "repo", {**files, "src/Lz4Codec.cs": codec}))
    found = await index.search("how the Lz4Codec compresses blocks of MessagePack", explain=True)
    rewarded = [hit.path for hit in found.hits if "defines the name" in (hit.explain or {})["rewards"]]
    assert rewarded == ["src/Lz4Codec.cs"]
    assert found.hits[0].path == "src/Lz4Codec.cs"
    alone = await index.search("MessagePack", explain=True)
    assert "defines the name" in (alone.hits[0].explain or {})["rewards"]


async def test_the_last_part_of_a_qualified_name_is_the_name(tmp_path: Path, make_index: MakeIndex) -> None:
    files = {
        "lib/channel.ex": "defmodule Phoenix.Channel do\n  def join(topic), do: topic\nend\n",
        "lib/socket.ex": "defmodule Phoenix.Socket do\n  def open(c), do: Phoenix.Channel.join(c)\nend\n",
    }
    index = await make_index(make_repository(tmp_path / "repo", files))
    for name in ("Channel", "Phoenix.Channel"):
        (found,) = (await index.symbols(name)).definitions
        assert (found.name, found.scope, found.path) == ("Channel", "Phoenix", "lib/channel.ex")
        assert (found.name_line, found.name_column) == (1, len("defmodule Phoenix."))
    uses = (await index.symbol_info("Channel", relation="references")).references
    assert [(use.path, use.line, use.column) for use in uses] == [
        ("lib/socket.ex", 2, len("  def open(c), do: Phoenix."))
    ]
    assert (await index.search("Channel")).hits[0].path == "lib/channel.ex"


async def test_lookups(tmp_path: Path, make_index: MakeIndex) -> None:
    index = await make_index(make_repository(tmp_path / "repo", SHOP))
    answer = await index.symbol_info("HttpClient.send_request", relation="callers")
    assert {one.name for one in answer.definitions} == {"retry_request", "test_client"}
    assert {use.path for use in answer.references} == {"shop/retry.py", "tests/test_http_client.py"}
    at = await index.symbol_info(path="shop/pool.py", line=4, column=15, relation="references")
    assert at.definitions[0].path == "shop/http_client.py"
    assert {use.kind for use in at.references} == {"import", "type", "call"}
    for query in ("Http", "httpcl", "Client", "hcli"):
        found = (await index.symbols(query, prefix=True)).definitions
        assert found[0].name == "HttpClient", query
    assert [one.name for one in (await index.symbols("HTTPCLIENT")).definitions] == ["HttpClient"]


async def test_the_map_of_a_workspace(tmp_path: Path, make_index: MakeIndex) -> None:
    root = make_repository(tmp_path / "repo", SHOP)
    index = await make_index(root)
    whole = await index.repo_map(1024)
    assert whole.text.startswith(
        "shop/http_client.py:\n  class HttpClient:\n    def send_request(self, url):\n"
    )
    assert whole.text.index("shop/pool.py") < whole.text.index("tests/test_http_client.py")
    assert whole.cut == 0
    assert whole.text == (await index.repo_map(1024)).text
    focused = await index.repo_map(24, focus=["web/httpClient.ts"], query="parse user name")
    assert "parseUserName" in focused.text
    for budget in (1, 2, 3, 7, 20, 50):
        part = await index.repo_map(budget)
        assert 0 < part.tokens <= budget
        assert part.tokens == estimate_tokens(part.text)


ENTRIES = st.lists(
    st.builds(
        Entry,
        path=st.text("ab/é😀", min_size=1, max_size=30),
        line=st.integers(1, 50),
        depth=st.integers(0, 4),
        text=st.text("abc (é😀", min_size=1, max_size=160),
        rank=st.floats(0, 1),
    ),
    max_size=60,
)


@settings(max_examples=200, deadline=None)
@given(ENTRIES, st.integers(1, 400))
def test_the_map_never_exceeds_its_budget(entries: list[Entry], budget: int) -> None:
    packed = pack(entries, len(entries), budget)
    assert estimate_tokens(packed.text) <= budget
    assert packed.symbols + packed.cut == len(entries)
    assert bool(packed.text) == bool(entries)
    assert packed == pack(entries, len(entries), budget)


def test_words() -> None:
    assert split_word("getHTTPResponse2") == ("gethttpresponse2", "get", "http", "response", "2")
    assert tokens("snake_case_name x") == ["snake_case_name", "snake", "case", "name", "x"]
    assert tokens("größe " + "a" * 200)[0] == "größe"
    for text in ("foo—bar 12ab getName('x')", "größe=1;naïve_word", "日本語 id", "", "a" * 200 + " b"):
        assert [part for word in raw_words(text.encode()) for part in tokens(word.decode())] == tokens(text)


def packed_file(path: str, lines: Sequence[str]) -> tuple[str, int, list[ChunkRow], bytes]:
    chunks = [Chunk(at + 1, at + 1, line.encode()) for at, line in enumerate(lines)]
    return path, 1, unpack_chunks(pack_chunks(chunks), len(chunks)), pack_bags(chunks)


LINES = st.lists(st.text("ab_AB cé ", min_size=1, max_size=30), min_size=1, max_size=4)


@settings(max_examples=60, deadline=None)
@given(st.lists(LINES, min_size=1, max_size=8), st.integers(0, 8))
def test_scores_are_those_of_bm25s_however_the_files_are_spread(files: list[list[str]], cut: int) -> None:
    rows = [packed_file(f"f{at}", lines) for at, lines in enumerate(files)]
    corpus = [
        tokens(line) + tokens(path) + 2 * tokens(path) for path, lines in zip((r[0] for r in rows), files, strict=True)
        for line in lines
    ]  # fmt: skip
    oracle = bm25s.BM25(k1=K1, b=B)
    oracle.index(corpus, show_progress=False)
    # The same files in two parts, and an older version of the first one that does not count any more.
    parts = [invert(part) for part in (rows[:cut], rows[cut:], [packed_file("f0", ["ab a_b stale"])])]
    collection = Collection()
    collection.set(parts, [np.full(len(part.contents), at < 2) for at, part in enumerate(parts)])
    assert len(collection) == len(corpus)
    words = sorted({word for line in corpus for word in line})
    # The oracle knows no grammatical forms; here they can only come from doubled letters.
    assume(not any(set(forms(word)) & set(words) for word in words))
    wanted = oracle.get_scores(words)
    assert collection.scores(words) == pytest.approx([*wanted, 0], abs=1e-3)
    assert float(collection.scores(["absent"]).max()) == 0
    whole = Collection()
    whole.set([invert(rows)], [np.ones(len(rows), bool)])
    assert whole.search(words[:3], 5) == collection.search(words[:3], 5)
    assert whole.search(words[:3], 5, lambda path: path == "f1") == [
        one for one in whole.search(words[:3], 99) if one[1].path == "f1"
    ]
