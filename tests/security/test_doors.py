"""The same attacks through each of the four front doors: paths, commands, injection, arguments of git, links, races.

``docs/security.md`` has the matrix of doors and attacks, with the tests that are not repeated here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.e2e.conftest import ground_of
from tests.e2e.ground import SECRET, Ground
from tests.security.doors import OVER, Door, door, refused
from tests.security.swapping import swapped
from tests.security.test_attacks import COMMANDS, INJECTION, PATHS, around, lay_traps, spelled

DOORS = ("lsp", "pipe", "http", "cli")
# A file of each of these names is there; to git they would be options, revisions or pathspecs.
NAMES = (
    "--output=pwned",
    "-p",
    "--exec=touch pwned",
    ":(exclude)x",
    "HEAD",
    "@{-1}",
    "$(touch pwned)",
    "a;touch pwned",
)
IDS = (
    *NAMES,
    "refs/heads/main",
    "--git-dir=/tmp",
    "HEAD:.env",
    "",
    "..",
    "0" * 40,
    "checkpoint-1\n--output=pwned",
)


@pytest.fixture(scope="module")
def hostile() -> Iterator[Ground]:
    """One ground for all doors, with links, secrets and neighbours, and the HTTP door open."""
    with ground_of(mcp_http="true") as ground:
        lay_traps(ground)
        for name in NAMES:
            (ground.root / name).write_text(f"{name}\n")
        (ground.root / "notes.md").write_text(INJECTION)
        ground.git("add", "--", *(f"./{name}" for name in NAMES if not name.startswith(":")), "notes.md")
        ground.git("-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "names")
        ground.git("update-ref", "refs/heads/--output=pwned", "HEAD")
        ground.ask("index")
        yield ground


@pytest.fixture(params=DOORS)
def entered(hostile: Ground, request: pytest.FixtureRequest) -> Iterator[tuple[Ground, Door, str]]:
    """A door; whatever is done there, every file in and around the workspace stays as it is."""
    before, beside = hostile.everything(), around(hostile)
    with door(hostile, request.param) as opened:
        yield hostile, opened, request.param
    assert hostile.everything() == before
    assert around(hostile) == beside


def test_closed_paths_are_closed(entered: tuple[Ground, Door, str]) -> None:
    ground, opened, name = entered
    found = opened.find(SECRET)
    shown = {hit["path"] for hit in found["hits"]}
    assert "src/a.py" in shown  # the open file with that word
    assert f"{SECRET} in ../" not in json.dumps(found)
    if name in ("pipe", "http"):  # a person's own search leaves nothing out
        assert not shown & {".env", "secrets/k", "pkg/secrets/k", "pkg/.env", "certs/server.PEM"}
    closed = [spelled(path, ground) for path in PATHS["never"]]
    if name == "cli":  # a process each, and no argument holds a NUL
        closed = [path for path in closed[::5] if "\0" not in path]
    for path in closed:
        answers = [opened.look(path), opened.read(path)]
        assert SECRET not in json.dumps(answers), path
        if name == "cli":
            continue
        assert refused(answers[1]), (path, answers[1])
        for forbidden in (path, *(spelled(one, ground) for one in PATHS["never_written"])):
            assert refused(opened.write(forbidden, "x")), forbidden


def test_no_command_of_the_corpus_runs_and_no_injection_works(entered: tuple[Ground, Door, str]) -> None:
    """A run that is started at this door does all that a text in the repository tells it."""
    ground, opened, name = entered
    tried = [
        {"tool": "Bash", "arguments": {"command": command}} for command in COMMANDS[DOORS.index(name) :: 12]
    ]
    obeying = [
        {"tool": "Write", "arguments": {"path": ".git/hooks/post-checkout", "content": "#!/bin/sh\n"}},
        {
            "tool": "Write",
            "arguments": {"path": ".codeforge/policies/free.yaml", "content": "mode: acceptEdits\n"},
        },
        {"tool": "Read", "arguments": {"path": ".env"}},
        {"tool": "Bash", "arguments": {"command": "codeforge approve --all"}},
    ]
    ground.play(
        {"tool": "Read", "arguments": {"path": "notes.md"}},
        {"tools": tried},
        {"tools": obeying},
        {"say": "I did what it said."},
    )
    run_id = opened.start("read the notes", "headless-safe-sandbox")
    ground.wait(lambda: ground.ask("show", run_id)["run"]["status"] in OVER, 90)
    shown = ground.ask("show", run_id)
    ends = [e["payload"]["applied"]["outcome"] for e in shown["events"] if e["type"] == "run.toolcall.result"]
    assert len(ends) > 4, shown["run"]
    assert ends[0] == "applied"
    assert not {*ends[1:]} - {"denied", "failed"}, ends
    assert not [e for e in shown["events"] if e["type"] == "run.toolcall.approved" and "Bash" in str(e)]
    assert SECRET not in json.dumps(shown)


def test_no_name_is_an_option_of_git(entered: tuple[Ground, Door, str]) -> None:
    ground, opened, name = entered
    for path in NAMES:
        told = opened.look(path)
        assert "Traceback" not in json.dumps(told), told
    for given in IDS:
        if name == "cli" and not given:
            continue
        assert refused(opened.restore(given)), given
    assert not list(ground.base.rglob("pwned"))


@pytest.mark.parametrize("name", ["lsp", "http"])
def test_links_that_are_swapped_while_it_writes_lead_nowhere(name: str) -> None:
    """As ``test_attacks`` shows for the pipe."""
    with ground_of(mcp_http="true") as ground:
        person = ground.editor()  # who allows what the agent asks
        with swapped(ground) as outside, door(ground, name) as opened:
            answers = [opened.write(f"race/{'ab'[at % 2]}.txt", f"ours {at}\n") for at in range(60)]
            for _ in range(20):
                opened.read("race/a.txt")
        assert {file.read_text() for file in outside.iterdir()} == {"theirs\n"}
        assert {refused(answer) for answer in answers} == {True, False}, answers[:5]
        person.close()
