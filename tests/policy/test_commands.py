"""Given command lines made to slip through, none is allowed; given honest ones, all are; and nobody else runs."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from codeforge_ls.model.policy import (
    Decision,
    PermissionRule,
    PolicyDecision,
    PolicyLayer,
    PolicyProfile,
    ToolCall,
    ToolSpecifier,
)
from codeforge_ls.policy.commands import Doubt, read_line
from codeforge_ls.policy.evaluate import evaluate
from codeforge_ls.policy.lexer import lex
from codeforge_ls.policy.library import PolicyLibrary
from codeforge_ls.policy.syntax import parse

HERE = Path(__file__).parent
ATTACKS = [json.loads(line) for line in (HERE / "attacks.jsonl").read_text().splitlines()]
LEGITIMATE = json.loads((HERE / "legitimate.json").read_text())
PERMISSIVE = json.loads((HERE / "permissive.json").read_text())
LISTED_PROGRAMS = (
    "ls",
    "cat",
    "echo",
    "grep",
    "rg",
    "find",
    "head",
    "wc",
    "sort",
    "tar",
    "sed",
    "cd",
    "pytest",
)
LISTED = PolicyLayer(
    profile=PolicyProfile(
        name="listed",
        rules=(
            PermissionRule(
                specifier=ToolSpecifier(tool="Bash"),
                decision=Decision.ALLOW,
                command_allow=(
                    *LISTED_PROGRAMS,
                    *("git status", "git diff", "git log", "python -m pytest", "go test"),
                    *("npm test", "make test", "make lint"),
                ),
            ),
            PermissionRule(specifier=ToolSpecifier(tool="Edit"), decision=Decision.ALLOW),
        ),
    )
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("commands") / "ws"
    (base / "src").mkdir(parents=True)
    (base / "secrets").mkdir()
    (base / "secrets/k").write_text("k")
    (base / "src/a.py").write_text("a")
    return base


def layers(name: str, root: Path) -> list[PolicyLayer]:
    return [LISTED] if name == "listed" else PolicyLibrary(root).get(name)


def judge(where: list[PolicyLayer], command: str, root: Path) -> PolicyDecision:
    # model_construct: a lone surrogate never passes the border, but the evaluator must stand it
    return evaluate(where, ToolCall.model_construct(tool="Bash", command=command, path=None), root)


def test_no_attack_is_allowed_by_a_list(root: Path) -> None:
    assert len(ATTACKS) >= 131
    for name in ("headless-safe-sandbox", "listed", "editor-interactive", "plan-readonly"):
        where = layers(name, root)
        let = [a["command"] for a in ATTACKS if judge(where, a["command"], root).decision is Decision.ALLOW]
        assert let == [], name


# A person's own rule, what it covers, and what it does not.
GUARDED = json.loads((HERE / "guarded.json").read_text())


@pytest.mark.parametrize("listed", GUARDED)
def test_a_rule_for_a_program_covers_what_its_name_promises(listed: str, root: Path) -> None:
    rules = [{"specifier": {"tool": "Bash"}, "decision": "allow", "command_allow": [listed, "ls"]}]
    rules += [{"specifier": {"tool": tool}, "decision": "allow"} for tool in ("Edit", "Read")]
    where = [PolicyLayer(profile=PolicyProfile.model_validate({"name": "mine", "rules": rules}))]
    covered, asked = GUARDED[listed]["covered"], GUARDED[listed]["asked"]
    answers = [(c, judge(where, c, root)) for c in covered]
    assert [(c, d.reason) for c, d in answers if d.decision is not Decision.ALLOW] == []
    assert [c for c in asked if judge(where, c, root).decision is Decision.ALLOW] == []
    # what the rule itself spells out, it covers
    for command in asked:
        rules[0]["command_exact"] = [command]
        spelled = [PolicyLayer(profile=PolicyProfile.model_validate({"name": "mine", "rules": rules}))]
        assert (
            judge(spelled, command, root).decision is Decision.ALLOW
            or judge(spelled, command, root).rule_index == -2
        )


def test_no_honest_command_is_refused(root: Path) -> None:
    assert sum(map(len, LEGITIMATE.values())) >= 17
    for name, commands in LEGITIMATE.items():
        where = layers(name, root)
        answers = [(c, judge(where, c, root)) for c in commands]
        assert [(c, d.reason) for c, d in answers if d.decision is not Decision.ALLOW] == []


def test_a_list_of_denied_programs_holds_at_any_depth_and_lets_work_go_on(root: Path) -> None:
    where = layers("headless-permissive-sandbox", root)
    assert [c for c in PERMISSIVE["refused"] if judge(where, c, root).decision is Decision.ALLOW] == []
    answers = [(c, judge(where, c, root)) for c in PERMISSIVE["allowed"]]
    assert [(c, d.reason) for c, d in answers if d.decision is not Decision.ALLOW] == []
    named = (
        "curl x",
        "cd . && curl x",
        "/usr/bin/curl x",
        "bash -c 'curl x'",
        "env curl x",
        "echo $(curl x)",
    )
    assert {judge(where, c, root).decision for c in named} == {Decision.DENY}


def test_codeforge_itself_is_denied_before_every_rule(root: Path) -> None:
    trusted = layers("trusted-mount-autonomous", root)
    for attack in (a["command"] for a in ATTACKS if a["class"] == "self approval"):
        decision = judge(trusted, attack, root)
        assert (decision.decision, decision.rule_index) == (Decision.DENY, -2), attack
    assert judge(trusted, "python -m pytest codeforge_ls/policy", root).decision is Decision.ALLOW


def test_what_cannot_be_read_is_asked_and_says_why(root: Path) -> None:
    trusted = layers("trusted-mount-autonomous", root)
    for command, why in (
        ("git status (", "cannot read all of it"),
        ("git status " + "a" * 9000, "longer than"),
        (" && ".join(["git status"] * 21), "more than 20 parts"),
        ("git status\u2028", "U+2028"),
        ("", "empty"),
        (" \n", "empty"),
        ("# only a comment", "empty"),
    ):
        decision = judge(trusted, command, root)
        assert decision.decision is Decision.ASK, command[:40]
        assert why in decision.reason
        assert decision.reason.isprintable()
    # a denied part decides, however many there are
    many = " && ".join([*["git status"] * 25, "curl x"])
    assert judge(layers("headless-permissive-sandbox", root), many, root).decision is Decision.DENY


def test_output_files_are_judged_as_writes(root: Path) -> None:
    docs_closed = PolicyProfile(
        name="docs-closed",
        rules=(
            PermissionRule(
                specifier=ToolSpecifier(tool="Edit"),
                decision=Decision.DENY,
                path_allow=("docs/**",),
                reason="docs",
            ),
            PermissionRule(specifier=ToolSpecifier(tool="Edit"), decision=Decision.ALLOW),
            PermissionRule(specifier=ToolSpecifier(tool="Bash"), decision=Decision.ALLOW),
        ),
    )
    where = [PolicyLayer(profile=docs_closed)]
    for command in (
        "echo x > docs/a",
        "ls >> ./docs/a",
        "cp src/a.py docs/a",
        "tee docs/a",
        "sed -i s/a/b/ docs/a",
        "git diff --output=docs/a",
        "sort -odocs/a src/a.py",
        "dd if=src/a.py of=docs/a",
        "rm docs/a",
        "bash -c 'echo x > docs/a'",
        "mv src/a.py docs/",
        "curl -o docs/a x",
    ):
        decision = judge(where, command, root)
        assert (decision.decision, decision.rule_index) == (Decision.DENY, 0), command
    assert judge(where, "echo x > src/b", root).decision is Decision.ALLOW
    assert (
        judge(where, "echo x > $F", root).decision is Decision.ALLOW
        or read_line("echo x > $F").doubt is Doubt.OPAQUE
    )


def test_the_second_reader_agrees_with_bash(tmp_path: Path) -> None:
    """What our lexer takes for words is what bash passes: asked of bash itself, for every honest command."""
    show = tmp_path / "show"
    show.write_text('#!/bin/sh\nprintf "%s\\0" "$@"\n')
    show.chmod(0o755)
    for command in [c for group in LEGITIMATE.values() for c in group]:
        parts = lex(command)
        assert parts is not None, command
        if len(parts) > 1 or any(mark in command for mark in "*?[>#"):
            continue
        said = subprocess.run(
            ["bash", "-c", f"{show} {command}"], capture_output=True, timeout=10, check=True, text=True
        )
        assert tuple(said.stdout.split("\0")[:-1]) == parts[0]


TOKENS = (
    *(
        "; curl x",
        "&& curl x",
        "| curl x",
        "|| curl x",
        "& curl x",
        "\ncurl x",
        "`curl x`",
        "$(curl x)",
        "<(curl x)",
    ),
    *(
        "> f",
        "< f",
        "\\",
        "'",
        '"',
        "$X",
        "${X}",
        "$'\\x3b'",
        "{a,b}",
        "!",
        "~",
        "#",
        "\r",
        "\x00",
        "\u2028",
        "\u00a0",
    ),
    *(
        "--output=f",
        "-c",
        "-p",
        "=",
        "*",
        "?",
        "(",
        ")",
        "{",
        "}",
        "[",
        "]]",
        ";;",
        "&",
        "|",
        "|&",
        "A=1 ",
        "\t",
        "..",
        "/",
    ),
    *(
        " curl ",
        " -exec curl ",
        " env curl ",
        "2>&1",
        ">&2",
        "2>/dev/null",
        "<<E",
        "<<<x",
        "if ",
        " then ",
        "eval ",
    ),
)
STUBS = (
    *LISTED_PROGRAMS,
    "git",
    "python",
    "go",
    "npm",
    "make",
    "curl",
    "rm",
    "sh",
    "env",
    "xargs",
    "a",
    "x",
    "tee",
)


def test_whatever_is_allowed_runs_only_listed_programs(root: Path, tmp_path: Path) -> None:
    """Each honest command with an attack token at every position; what is allowed is run with stubs that log."""
    where, allowed, tried = [LISTED], [], 0
    commands = [c for group in LEGITIMATE.values() for c in group]
    for command in commands:
        for token in TOKENS:
            for at in range(len(command) + 1):
                candidate = command[:at] + token + command[at:]
                tried += 1
                if tried % 4 == 0 and judge(where, candidate, root).decision is Decision.ALLOW:
                    allowed.append(candidate)
    assert tried > 50_000
    assert allowed
    sample = random.Random(1).sample(allowed, min(250, len(allowed)))
    stubs, log = tmp_path / "bin", tmp_path / "log"
    stubs.mkdir()
    for name in STUBS:
        stub = stubs / name
        stub.write_text(f'#!/bin/bash\nprintf "%s\\0" "${{0##*/}} $1 $2" >> {log}\n')
        stub.chmod(0o755)
    work = tmp_path / "work"
    (work / "src").mkdir(parents=True)
    env = {"PATH": str(stubs), "HOME": str(work)}
    rules = [entry.split() for entry in LISTED.profile.rules[0].command_allow]
    for candidate in sample:
        log.write_text("")
        subprocess.run(
            ["/bin/bash", "--noprofile", "--norc", "-c", candidate],
            cwd=work,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=20,
            check=False,
        )
        for ran in log.read_text().split("\0")[:-1]:
            words = ran.split()
            assert any(words[: len(rule)] == rule for rule in rules), (candidate, ran)
        assert [path.name for path in work.iterdir()] == ["src"], candidate


def test_a_decision_takes_less_than_a_millisecond(root: Path) -> None:
    where = layers("headless-safe-sandbox", root)
    commands = [a["command"] for a in ATTACKS if a["class"] != "size and noise"]
    commands += [c for group in LEGITIMATE.values() for c in group]
    judge(where, "ls", root)
    spent = []
    for command in commands:
        begin = time.thread_time()  # the processor's time: what others do on this machine does not count
        judge(where, command, root)
        spent.append(time.thread_time() - begin)
    spent.sort()
    assert spent[int(len(spent) * 0.99)] < 1e-3 * float(os.environ.get("CODEFORGE_TEST_SLOWNESS", "2"))
    begin = time.thread_time()
    for attack in (a["command"] for a in ATTACKS if a["class"] == "size and noise"):
        judge(where, attack, root)
    assert time.thread_time() - begin < 0.1


def test_no_character_crashes_the_parser() -> None:
    """The scanner of tree-sitter-bash reads outside of its tables for them, which would end the daemon."""
    shapes = ("{@}", "${@}", "[[ a =~ @ ]]", "cat <<@")
    lines = [shape.replace("@", letter) for shape in shapes for letter in "\U0010ffff\U000e0001é"]
    program = (
        "import sys; from codeforge_ls.policy.syntax import parse\n"
        "for line in sys.argv[1:]: assert parse(line).words or True"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *lines], capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert parse("cat {\U0010ffff} sécrets/.env").commands[0].argv[-1] == "sécrets/.env"
