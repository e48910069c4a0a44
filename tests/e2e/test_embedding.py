"""An embedding endpoint in place of the word vectors: what is sent, what is kept, and who answers when it is ill."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import Any

import pytest

from codeforge_ls.llm.scripted import ScriptedServer
from codeforge_ls.llm.scripted_embeddings import ScriptedEmbeddings
from tests.e2e.conftest import ground_of
from tests.e2e.editor import Editor
from tests.e2e.ground import SECRET, Ground

Json = dict[str, Any]
SAME = {"zeppelin": "prices"}  # what only this model knows
NEW_TEXT = "def never_before():\n    return 'seen'\n"


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    """A real server with an embedding model."""
    with ScriptedServer([], embeddings=ScriptedEmbeddings(SAME)) as running:
        yield running


def ground_with(server: ScriptedServer, **settings: object) -> Any:
    """A ground whose embedding model is at that server."""
    return ground_of(
        embedding_model="openai/scripted-embedding",
        embedding_api_base=server.base_url,
        embedding_batch=4,
        embedding_query_timeout_seconds=30,  # litellm takes seconds to import on a busy machine
        **settings,
    )


def leg(editor: Editor) -> Json:
    """The state of the embedding leg."""
    legs = editor.command("index.status")["legs"]
    found: Json = next(one for one in legs if one["name"] == "embedding")
    return found


def sent(server: ScriptedServer) -> list[str]:
    """Every text that the server was sent."""
    inputs = (body["input"] for body in server.requests)
    return list(itertools.chain.from_iterable([one] if isinstance(one, str) else one for one in inputs))


def ready(ground: Ground, editor: Editor) -> None:
    ground.wait(lambda: leg(editor)["state"] == "ready", 60, "the embedding leg is not ready")


def test_the_endpoint_answers_for_the_word_vectors(server: ScriptedServer) -> None:
    with ground_with(server) as ground:
        for at in range(
            40
        ):  # more than the answering part: they count as done, and do not keep it from answering
            (ground.root / f"secrets/{at}.py").parent.mkdir(exist_ok=True)
            (ground.root / f"secrets/{at}.py").write_text(f"TOKEN_{at} = '{SECRET}'\n")
        editor, agent = ground.editor(), ground.agent()
        editor.command("index.build")
        ready(ground, editor)
        found = editor.command("search", query="zeppelin", explain=True)
        assert found["legs"] == ["bm25", "embedding"]
        assert found["hits"][0]["path"] == "shop/cart.py"
        assert found["hits"][0]["explain"]["legs"]["embedding"]["rank"] == 1
        assert agent.facts("search_code", query="zeppelin")["hits"][0]["path"] == "shop/cart.py"
        texts = sent(server)
        assert any("def total" in text for text in texts)
        assert all(len(body["input"]) <= 4 for body in server.requests)
        assert not any(SECRET in text for text in texts), "a protected file was sent"

        # A copy, a rename and a second look at the same query cost nothing; a new content is sent once.
        before = len(texts)
        (ground.root / "copy.py").write_text(ground.text("shop/cart.py"))
        (ground.root / "shop/tax.py").rename(ground.root / "shop/taxes.py")
        editor.command("index.build")
        ready(ground, editor)
        assert editor.command("search", query="zeppelin")["legs"] == ["bm25", "embedding"]
        assert len(sent(server)) == before
        (ground.root / "new.py").write_text(NEW_TEXT)
        editor.command("index.build")
        ground.wait(lambda: len(sent(server)) > before, 20, "the new file was not sent")
        ready(ground, editor)
        assert [text for text in sent(server)[before:] if "never_before" in text] == sent(server)[before:]

        # The next daemon has the vectors of this one.
        before = len(sent(server))
        editor.close()
        ground.ask("daemon", "stop")
        editor = ground.editor()
        editor.command("index.build")
        ready(ground, editor)
        assert editor.command("search", query="zeppelin")["hits"][0]["path"] in ("shop/cart.py", "copy.py")
        assert sent(server)[before:] == ["zeppelin"]


def test_when_it_is_ill_the_word_vectors_answer_and_the_reason_is_shown(server: ScriptedServer) -> None:
    with ground_with(server) as ground:
        server.embeddings.failing = 500
        editor = ground.editor()
        editor.command("index.build")
        ground.wait(lambda: leg(editor)["state"] == "failed", 60, "it does not say that it failed")
        assert re.search("ill.*Word vectors answer meanwhile", leg(editor)["note"])
        ground.wait(lambda: "vectors" in editor.command("search", query="prices")["legs"], 30)
        server.embeddings.failing = None
        ready(ground, editor)  # it is tried again by itself
        assert editor.command("search", query="prices")["legs"] == ["bm25", "embedding"]
        server.embeddings.failing = 503
        answer = editor.command("search", query="never asked before prices")
        assert answer["legs"] == ["bm25", "vectors"]
        assert answer["hits"][0]["path"] in ("shop/cart.py", "shop/tax.py")
        assert "Word vectors" in leg(editor)["note"]
        circuits = editor.command("health")["model"]["circuits"]
        assert sum(one["failures"] for one in circuits.values()) >= 1
        server.embeddings.failing = None
        ground.wait(
            lambda: editor.command("search", query="asked again prices")["legs"] == ["bm25", "embedding"], 60
        )
        assert leg(editor)["note"] == ""


def test_weights_are_settings_and_a_workspace_cannot_name_an_endpoint(server: ScriptedServer) -> None:
    with ground_of(search_vector_weight=0, search_symbol_vector_weight=0) as ground:
        folder = ground.root / ".codeforge"
        folder.mkdir()
        (folder / "config.yaml").write_text(
            f"embedding: {{model: openai/thief, api_base: '{server.base_url}'}}\n"
        )
        editor = ground.editor()
        editor.command("index.build")
        ground.wait(lambda: "vectors" in editor.command("search", query="prices")["legs"], 30)
        hits = editor.command("search", query="sum of prices", explain=True)["hits"]
        only_near = [hit for hit in hits if "bm25" not in hit["explain"]["legs"]]
        assert all(hit["score"] < hits[0]["score"] for hit in only_near)
        assert not any(one["name"] == "embedding" for one in editor.command("index.status")["legs"])
        assert server.requests == []
