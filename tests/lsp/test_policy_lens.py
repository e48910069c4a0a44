"""The lens over the rules of policy files, with a real client over a real pipe: where it is, and what trying shows."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from lsprotocol import types

from codeforge_ls.llm.scripted import ScriptedServer
from tests.lsp.test_session_e2e import Person, Scene

PROFILE = """\
name: ours
mode: default
rules:
  - specifier: {tool: Bash}
    decision: allow
    command_allow: [git log]
    match: [git log --oneline]
    not_match: [git status]
  - specifier: {tool: Edit}
    decision: deny
    path_allow: ["vendor/**", "**/.env"]
    match: [vendor/a.py, .env]
  - {specifier: {tool: Read}, decision: allow}
"""


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    with ScriptedServer([]) as model:
        made = Scene(tmp_path, model)
        yield made
        await made.leave()
        made.close()


class Desk:
    """A person at an editor with policy files."""

    def __init__(self, person: Person) -> None:
        self.person, self.client = person, person.client
        self.shown: list[types.ShowMessageParams] = self.client.messages

    async def lenses(self, file: Path) -> list[types.CodeLens]:
        document = types.TextDocumentIdentifier(uri=file.as_uri())
        found = await asyncio.wait_for(
            self.client.text_document_code_lens_async(types.CodeLensParams(text_document=document)), 20
        )
        return list(found or [])

    async def run(self, lens: types.CodeLens, **more: Any) -> tuple[Any, types.ShowMessageParams]:
        assert lens.command is not None
        assert lens.command.arguments is not None
        argument = lens.command.arguments[0]
        plain = {"uri": argument["uri"], "rule": argument["rule"], **more}
        seen = len(self.shown)
        params = types.ExecuteCommandParams(command=lens.command.command, arguments=[plain])
        answer = await asyncio.wait_for(self.client.workspace_execute_command_async(params), 20)
        await self.person.until(lambda: len(self.shown) > seen)
        return answer, self.shown[-1]


async def test_each_rule_has_a_lens_and_trying_it_shows_the_decision_with_file_and_line(scene: Scene) -> None:
    ours = scene.root / ".codeforge" / "policies" / "ours.yaml"
    mine = Path(scene.env["XDG_CONFIG_HOME"]) / "codeforge" / "policies" / "mine.yaml"
    kept = scene.root / "policies" / "kept.yml"
    for file in (ours, mine, kept):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(PROFILE)
    other = scene.root / "deploy.yaml"
    other.write_text(PROFILE)
    desk = Desk(await scene.person("neovim", "--embedded"))
    assert desk.client.capabilities is not None
    for file in (ours, mine, kept):
        found = await desk.lenses(file)
        assert [lens.range.start.line for lens in found] == [3, 8, 12], file
        assert {lens.command.title for lens in found if lens.command} == {"Evaluate"}
    assert await desk.lenses(other) == []
    assert await desk.lenses(scene.root / "open.py") == []

    bash, edit, read = await desk.lenses(ours)
    answer, told = await desk.run(bash)
    assert told.type is types.MessageType.Info
    assert (
        f"git log --oneline: allowed, rule 1 (Bash: allow) for 'git log --oneline' ({ours}:4)" in told.message
    )
    assert f"git status: asks, no rule matched; mode default means ask ({ours}:2)" in told.message
    assert [one["decision"]["decision"] for one in answer["tried"]] == ["allow", "ask"]

    answer, told = await desk.run(edit)  # the guard speaks before the rule: the example is not what it seems
    assert told.type is types.MessageType.Warning
    assert f"vendor/a.py: denied, rule 2 (Edit: deny) ({ours}:9)" in told.message
    assert (
        ".env: denied, .env is protected: it may hold secrets; another rule decides this example"
        in told.message
    )

    _, told = await desk.run(read)
    assert "has no examples" in told.message
    answer, told = await desk.run(read, input="src/a.py")
    assert told.message.endswith(f"src/a.py: allowed, rule 3 (Read: allow) ({ours}:13)")
    assert (answer["tried"][0]["decision"]["line"], answer["tried"][0]["decides"]) == (13, True)
    _, told = await desk.run(bash, input="git log ../x")
    assert f"git log ../x: asks, the argument '../x' leads outside the workspace ({ours}:4)" in told.message
    answer, told = await desk.run(bash, input="git log | tee .env")
    assert answer["tried"][0]["decision"]["decision"] == "deny"


async def test_the_text_on_the_screen_counts_and_a_broken_or_missing_file_is_said(scene: Scene) -> None:
    ours = scene.root / ".codeforge" / "policies" / "ours.yaml"
    ours.parent.mkdir(parents=True)
    ours.write_text(PROFILE)
    desk = Desk(await scene.person("visual-studio-code", "--embedded"))
    desk.person.open(
        ".codeforge/policies/ours.yaml", "# not saved yet\n" + PROFILE.replace("git log", "git show")
    )
    lens = (await desk.lenses(ours))[0]
    assert lens.range.start.line == 4
    _, told = await desk.run(lens, input="git show")
    assert f"git show: allowed, rule 1 (Bash: allow) for 'git show' ({ours}:5)" in told.message
    assert ours.read_text() == PROFILE

    place = types.Range(types.Position(1, 0), types.Position(2, 0))
    desk.person.type(ours.as_uri(), place, "name: [\n")
    assert await desk.lenses(ours) == []
    with pytest.raises(Exception, match=r"ours.yaml:\d+: it is not valid YAML"):
        await desk.run(lens)
    pipe = ours.with_name("pipe.yaml")
    os.mkfifo(pipe)
    for file in (pipe, ours.with_name("absent.yaml"), scene.root / "deploy.yaml", Path("/etc/passwd")):
        assert await desk.lenses(file) == []
        with pytest.raises(Exception, match="no policy file that can be read"):
            await desk.person.do("policy.try", uri=file.as_uri(), rule=0)
    with pytest.raises(Exception, match="has no rule 100"):
        await desk.person.do("policy.try", yaml=PROFILE, rule=99)
