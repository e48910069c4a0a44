"""Given a question that a person answers with "always", exactly that is not asked again, and everything else is."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from codeforge_ls.model.approvals import Approval
from codeforge_ls.model.errors import Conflict, Denied, InvalidInput, NotFound
from codeforge_ls.model.events import EventType
from codeforge_ls.model.policy import Decision, PolicyDecision, PolicyScope, ToolCall
from codeforge_ls.policy.always import what_can_ask
from codeforge_ls.policy.evaluate import evaluate
from codeforge_ls.policy.library import PolicyLibrary
from codeforge_ls.policy.loader import parse_layer
from codeforge_ls.policy.writer import PolicyWriter
from codeforge_ls.store import Store

ASKS, REFUSES = "editor-interactive", "headless-safe-sandbox"


class Ground:
    """A workspace, the user's folders, a log, and the writer over them."""

    def __init__(self, base: Path, store: Store) -> None:
        self.root, self.user = base / "ws", base / "config" / "policies"
        self.own, self.managed = base / "config" / "workspaces" / "id", base / "etc"
        self.project = self.root / ".codeforge" / "policies"
        for folder in (self.root, self.project, self.managed):
            folder.mkdir(parents=True)
        self.store = store
        self.library = PolicyLibrary(self.root, self.user, own_dir=self.own, managed_dir=self.managed)
        self.writer = PolicyWriter(self.root, self.library, store)

    @property
    def file(self) -> Path:
        return self.own / "policy.yaml"

    def judge(self, tool: str, what: str, profile: str = ASKS) -> PolicyDecision:
        call = ToolCall(tool=tool, **({"command": what} if tool == "Bash" else {"path": what}))
        return evaluate(self.library.get(profile), call, self.root)

    async def always(self, tool: str, *paths: str, command: str | None = None) -> None:
        decision = self.judge(tool, command if command is not None else paths[0])
        question = Approval(
            id="a", action_hash="h", tool=tool, title="t", paths=paths, command=command,
            decision=decision, created_at=time.time(), expires_at=time.time() + 60,
        )  # fmt: skip
        await self.writer.allow_always(question, "editor:Neovim")

    async def edits(self) -> list[tuple[str, object, str]]:
        events = await self.store.events("workspace")
        return [
            (str(event.payload["change"]), event.payload["after"], event.actor)
            for event in events
            if event.type == EventType.POLICY_CHANGED
        ]


@pytest.fixture
async def ground(tmp_path: Path) -> AsyncIterator[Ground]:
    store = await Store.open(tmp_path / "state.db")
    try:
        yield Ground(tmp_path, store)
    finally:
        await store.close()


async def test_a_command_is_allowed_word_for_word(ground: Ground) -> None:
    line = "npm run build && ls > out.txt"
    assert ground.judge("Bash", line).decision is Decision.ASK
    await ground.always("Bash", command=line)
    decision = ground.judge("Bash", line)
    assert (decision.decision, decision.scope) == (Decision.ALLOW, PolicyScope.ALWAYS)
    # the record leads to the rule's own line
    assert decision.file == str(ground.file)
    text = ground.file.read_text()
    assert text.splitlines()[decision.line - 1].strip().startswith("- specifier:")
    assert "editor:Neovim" in decision.reason
    for other in (
        "npm run build", "npm run build && ls > out.txt; curl x", "npm run build && ls > out.tx",
        "npm run build && ls > 'out.txt'", "npm run build  && ls > out.txt", "NPM run build && ls > out.txt",
        "npm run build && ls > out.txt x", "npm run build && ls > out.txt\u2028", "npm run 'build && ls > out.txt'",
    ):  # fmt: skip
        assert ground.judge("Bash", other).decision is Decision.ASK, other
    # what is denied is not a question, and what is protected no rule opens
    assert ground.judge("Bash", line, REFUSES).decision is Decision.DENY
    assert not ground.writer.can_allow_always("Bash", (), "echo 'open")
    assert not ground.writer.can_allow_always("Bash", (), "echo a\necho b")
    assert not ground.writer.can_allow_always("Restore", (), None)
    assert oct(ground.file.stat().st_mode)[-3:] == "600"
    assert await ground.edits() == [("allowed always", text, "editor:Neovim")]


async def test_files_are_allowed_by_their_names_alone(ground: Ground) -> None:
    await ground.always("Edit", "src/a[1].py", "docs/*.md")
    await ground.always("Edit", "src/a[1].py", "docs/*.md")
    for path, decision in (
        ("src/a[1].py", Decision.ALLOW), ("docs/*.md", Decision.ALLOW), ("src/a1.py", Decision.ASK),
        ("docs/x.md", Decision.ASK), ("src/b.py", Decision.ASK),
    ):  # fmt: skip
        assert ground.judge("Edit", path).decision is decision, path
    assert ground.judge("MultiEdit", "src/a[1].py").decision is Decision.ALLOW
    assert len(await ground.writer.standing()) == len(await ground.edits()) == 1
    # a link with that name that leads elsewhere is another file
    (ground.root / "src").mkdir()
    (ground.root / "src/a[1].py").symlink_to("../Makefile")
    assert ground.judge("Edit", "src/a[1].py").decision is Decision.ASK
    gone = await ground.writer.forget(0, "cli:terminal")
    assert gone.rule.path_allow[0] == "src/a[[]1].py"
    assert ground.judge("Edit", "docs/*.md").decision is Decision.ASK
    assert [change for change, _, _ in await ground.edits()] == ["allowed always", "asked again"]
    with pytest.raises(NotFound):
        await ground.writer.forget(0, "cli:terminal")


async def test_a_persons_own_lines_in_that_file_are_kept_and_tighten(ground: Ground) -> None:
    ground.own.mkdir(parents=True)
    ground.file.write_text(
        "# mine\nname: here\nrules:\n"
        "  - specifier: {tool: Bash}   # not on this machine\n    decision: deny\n    command_allow: [make deploy]\n"
    )
    ground.library.reload()
    await ground.always("Bash", command="make test")
    text = ground.file.read_text()
    assert "# mine" in text
    assert "# not on this machine" in text
    assert ground.judge("Bash", "make test").decision is Decision.ALLOW
    denied = ground.judge("Bash", "make deploy now", "trusted-mount-autonomous")
    assert (denied.decision, denied.scope, denied.line) == (Decision.DENY, PolicyScope.ALWAYS, 4)
    # a broken file closes everything, names its line, and is not written over
    ground.file.write_text(text + "mode: wild\n")
    ground.library.reload()
    closed = ground.judge("Read", "a.py")
    assert (closed.decision, closed.file) == (Decision.DENY, str(ground.file))
    assert closed.line == text.count("\n") + 1
    with pytest.raises(Conflict, match="mode"):
        await ground.always("Bash", command="make lint")
    assert ground.file.read_text() == text + "mode: wild\n"


async def test_always_answers_the_project_and_not_the_administrator(ground: Ground) -> None:
    (ground.project / "p.yaml").write_text(
        "name: trusted-mount-autonomous\nmode: delegate\nrules:\n"
        "  - {specifier: {tool: Bash}, decision: ask, command_allow: [make]}\n"
    )
    ground.library.reload()
    profile = "trusted-mount-autonomous"
    assert ground.judge("Bash", "make all", profile).scope is PolicyScope.PROJECT
    await ground.always("Bash", command="make all")
    assert ground.judge("Bash", "make all", profile).decision is Decision.ALLOW
    (ground.managed / "managed.yaml").write_text(
        "name: managed\nmode: delegate\nrules:\n"
        "  - {specifier: {tool: Bash}, decision: ask, command_allow: [make]}\n"
        "  - {specifier: {tool: Bash}, decision: deny, command_allow: [curl]}\n"
    )
    ground.library.reload()
    for name in ground.library.names():
        assert ground.judge("Bash", "curl x", name).decision is Decision.DENY
    asked = ground.judge("Bash", "make all", profile)
    assert (asked.decision, asked.scope, asked.line) == (Decision.ASK, PolicyScope.MANAGED, 4)
    both = ground.judge(
        "Bash", "make other", ASKS
    )  # the preset asks too, and its question could be settled for good
    assert (both.decision, both.scope) == (Decision.ASK, PolicyScope.MANAGED)
    with pytest.raises(Denied):
        await ground.always("Bash", command="make all")
    # the administrator's profile of a name stands for it, whatever the user's file of that name says
    (ground.managed / "x.yaml").write_text("name: twin\nmode: plan\n")
    ground.user.mkdir(parents=True)
    (ground.user / "twin.yaml").write_text("name: twin\nmode: delegate\n")
    ground.library.reload()
    assert ground.judge("Edit", "a", "twin").scope is PolicyScope.MANAGED
    assert [problem.line for problem in ground.library.problems] == [2]
    with pytest.raises(Denied, match="administrator"):
        await ground.writer.save("name: twin\n", "cli:terminal")
    # what cannot be read may have forbidden anything
    for name in ("managed.yaml", "x.yaml"):
        (ground.managed / name).unlink()
    (ground.managed / "managed.yaml").write_text("name: managed\nmode: wild\n")
    ground.library.reload()
    assert ground.judge("Read", "a", profile).decision is Decision.DENY
    (ground.managed / "managed.yaml").unlink()
    ground.managed.rmdir()
    ground.managed.symlink_to(ground.managed.name)
    ground.library.reload()
    closed = ground.judge("Read", "a", profile)
    assert (closed.decision, closed.scope) == (Decision.DENY, PolicyScope.MANAGED)


async def test_profiles_are_saved_and_deleted_by_name_and_recorded(ground: Ground) -> None:
    mine = "# kept\nname: mine\nmode: plan\nrules:\n  - {specifier: {tool: Read}, decision: allow}\n"
    saved = await ground.writer.save(mine, "editor:Neovim")
    assert Path(saved.source) == ground.user / "mine.yaml"
    assert Path(saved.source).read_text() == mine
    assert oct(Path(saved.source).stat().st_mode)[-3:] == "600"
    assert ground.judge("Read", "a", "mine").line == 5
    assert ground.judge("Edit", "a", "mine").line == 3
    # a file under another name is the one that is replaced
    (ground.user / "mine.yaml").rename(ground.user / "other.yml")
    ground.library.reload()
    await ground.writer.save(mine.replace("plan", "delegate"), "editor:Neovim")
    assert [path.name for path in ground.user.iterdir()] == ["other.yml"]
    with pytest.raises(InvalidInput, match=r"the profile:4: .*must match"):
        await ground.writer.save(
            "name: mine\nrules:\n  - specifier: {tool: Bash}\n    match: [lsof]\n"
            "    decision: allow\n    command_allow: [ls]\n",
            "cli:terminal",
        )
    for name in ("headless-safe-sandbox", "managed"):
        with pytest.raises(Denied):
            await ground.writer.save(f"name: {name}\nmode: delegate\n", "cli:terminal")
        with pytest.raises(Denied):
            await ground.writer.delete(name, "cli:terminal")
    await ground.writer.delete("mine", "cli:terminal")
    with pytest.raises(NotFound):
        await ground.writer.delete("mine", "cli:terminal")
    assert "mine" not in ground.library.names()
    assert [(change, actor) for change, _, actor in await ground.edits()] == [
        ("saved", "editor:Neovim"), ("saved", "editor:Neovim"), ("deleted", "cli:terminal"),
    ]  # fmt: skip


def test_only_allowing_rules_at_the_end_of_that_file_cannot_ask_or_refuse() -> None:
    def bound(*rules: str, more: str = "") -> str:
        listed = "".join(f"  - {{specifier: {{tool: Bash}}, {rule}}}\n" for rule in rules)
        text = f"name: here\n{more}" + (f"rules:\n{listed}" if rules else "")
        return what_can_ask(parse_layer(text, PolicyScope.ALWAYS, "f"))

    allow, deny = "decision: allow, command_exact: [a]", "decision: deny, command_exact: [b]"
    assert bound() == bound(allow) == bound(allow, allow, more="description: mine\n") == ""
    assert bound(deny) == bound(deny, allow) != ""
    # an allowing rule before it may hide it: without that one the same command is refused
    assert bound(allow, deny) not in (bound(deny), bound(allow))
    assert bound(allow, more="protected_paths: [x]\n") == bound(more="protected_paths: [x]\n") != ""
    assert bound(more="termination: {max_steps: 3}\n") != ""
