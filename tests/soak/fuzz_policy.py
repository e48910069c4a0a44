"""Fuzz of the policy: attacks grow out of legal commands, and what is allowed runs nothing but what is listed.

First every token goes into every gap of every legal command (in a slice into some), then attacks grow: a command that
is still allowed after tokens were put into it becomes a seed itself. What the evaluator allows is really run, as the
product would start it, among programs that write down their calls (``stub_world``): each call must begin with an
entry of the list, bash may run no builtin but a listed one, no file may change.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from codeforge_ls.model.policy import (
    Decision,
    PermissionRule,
    PolicyLayer,
    PolicyProfile,
    ToolCall,
    ToolSpecifier,
)
from codeforge_ls.policy.evaluate import evaluate
from codeforge_ls.policy.library import PolicyLibrary
from tests.soak.ground import Ground
from tests.soak.hostile import Hostile
from tests.soak.report import Part
from tests.soak.stub_world import StubWorld

STRICT = "headless-safe-sandbox"
# A person's own list of programs that look, with arguments that could do anything but look.
TOOLS = (
    "git status", "git diff", "git log", "git show", "git grep", "git ls-files", "git blame",
    "git rebase --show-current-patch", "find", "grep", "egrep", "rg", "sed", "sort", "head", "tail", "wc", "tar",
    "xargs", "env", "timeout", "nice", "ls", "cat", "echo", "ssh", "rsync", "pytest", "python -m pytest", "make test",
    "awk",
)  # fmt: skip
LEGAL_TOOLS = (
    "git status --short", "git diff --stat HEAD", "git log --oneline -n 3 -- src", "git show HEAD:src/a.py",
    "git grep -n x -- src", "git ls-files src", "git blame src/a.py", "git log -1 --format='%h %s'",
    "find . -name '*.py' -type f", "find src -maxdepth 1 -newer a.txt", "grep -rn 'x =' src", "egrep -c x a.txt",
    "rg -n x src", "sed -n '1,3p' a.txt", "sed -n -e 's/x/y/p' src/a.py", "sort -u a.txt", "head -n 2 a.txt",
    "tail -n 1 src/a.py", "wc -l a.txt", "tar -tf dist.tar", "tar tvf dist.tar src", "env LANG=C git status",
    "timeout 5 git diff", "nice -n 5 grep x a.txt", "ls -la src", "cat a.txt | grep -n x | head -5", "echo done",
    "ssh -T nowhere.invalid", "rsync -n src/ other.invalid:x", "pytest -x -q tests", "python -m pytest -k 'a and b'",
    "make test -j2", "git status && git diff", "ls *.py; wc -l a.txt", "timeout 9 nice git log -1 2>/dev/null",
    "awk '{print $1}' a.txt", "awk -F: 'NR==1' a.txt", "git diff 2>&1 | wc -l",
)  # fmt: skip
ATTACKS = (
    ";", "&&", "||", "|", "&", "\n", "\r", "`touch pwned`", "$(touch pwned)", "<(touch pwned)", "> pwned", ">> pwned",
    ">| pwned", "&> pwned", "2> pwned", "< a.txt", "<<< x", "${IFS}", "$IFS", "$'\\x3b'", "\\", "'", '"', "(", ")",
    "{", "}", "!", "#", "~", "*", "?", "\t", "\u2028", "\u00a0", "\u202e", "\0", "\x1b", "curl x", "rm -f a.txt",
    "env curl", "sh -c 'touch pwned'", "--output=pwned", "--outp=pwned", "-c core.pager=curl", "--exec-path=.",
    "-C /", "-o pwned", "--rootdir=/", "-p evil", "--ext-diff", "--textconv", "--no-index", "--", "-", "deploy",
    "X=1", "PATH=.", "exec", "eval", "time", "!!", "1>&2", "2>&1", "coproc", "function f", "if", "then", "git push",
    "/usr/bin/curl", "../x", "-exec touch pwned ;", "-exec touch pwned {} +", "-execdir evil ';'", "-delete",
    "-fprint pwned", "-ok evil", "-fls pwned", "--pre evil", "--pre=evil", "--hostname-bin=evil", "-i", "-i.bak",
    "w pwned", "e", "'1e touch pwned'", "'w pwned'", "'s/x/y/w pwned'", "'s/x/touch pwned/e'", "--to-command=evil",
    "-I evil", "--use-compress-program=evil", "--checkpoint=1 --checkpoint-action=exec=evil", "evil:x", "-f evil:x",
    "--rsh-command=evil", "-F evil", "-oProxyCommand=evil", "-o ProxyCommand=evil", "-o 'LocalCommand evil'",
    "-e evil", "--rsh=evil", "-e 'evil x'", "xargs evil", "| xargs -I{} evil", "| xargs rm", "-S 'evil x'", "-i",
    "-u PATH", "TAR_OPTIONS=--to-command=evil", "RIPGREP_CONFIG_PATH=evil", "GIT_PAGER=evil",
    "GIT_EXTERNAL_DIFF=evil", "BASH_ENV=evil", "-k 1", "--foreground", "--compress-program=evil", "--files0-from=-",
    "-T /", "-E '$(shell evil)'", "--eval='$(shell evil)'", "-f evil", "SHELL=evil", "-t",
    "'BEGIN{system(\"evil\")}'", "'BEGIN{print > \"pwned\"}'", "'{print | \"evil\"}'", "-O evil", "-Oevil",
    "--open-files-in-pager=evil", "--exec=evil", "-x evil", "%G?", "--format=%G?", "--show-signature", "-c", "evil",
    "tee pwned", "touch pwned", ". ./evil", "source evil", "cd /", "export X=1", "alias ls=evil",
    "hash -p /bin/id ls", "printf x", "[ a ]", "[[ a ]]", "((1))", "true", ":", "command evil", "builtin eval evil",
    "nohup evil", "sudo evil", "busybox evil", "python -c 'x'", "perl -e 'x'", "--paginate", "-p", "@evil", "+evil",
    "\\n", "$0", "$@", "a=b",
)  # fmt: skip
WRAPPERS = ("env {}", "timeout 5 {}", "nice {}", "xargs {}", "find . -exec {} ;", "sh -c '{}'", "( {} )", "$({})",
            "{{ {}; }}", "{} &", "! {}", "time {}", "LANG=C {}", "if {}; then {}; fi", "{} | {}", "{} && {}",
            "{}; {}")  # fmt: skip
MAX_SEEDS = 4000
_PLAIN_WORD = re.compile(r"[A-Za-z0-9_./@%+=:,-]+\Z")


@dataclass
class World:
    """A policy, what it lists, the commands to grow from, and what was allowed so far."""

    name: str
    layers: Sequence[PolicyLayer]
    listed: tuple[tuple[str, ...], ...]
    seeds: list[str]
    real: bool
    allowed: dict[str, None] = field(default_factory=dict)


def prove(part: Part, *, cases: int, legal: Path) -> None:
    """Half of the commands against the strict preset among stubs, half against a list of tools that are real."""
    ground = Ground("pol")
    hostile = Hostile(part.seed)
    with part.timed():
        try:
            for world in _worlds(ground, legal):
                planned = _every_gap(world, hostile)[: cases * 3 // 10]
                for number in range(cases // 2):
                    command = planned[number] if number < len(planned) else _attack(world, hostile)
                    _case(part, world, command, hostile, ground.root)
                    if number % 20_000 == 19_999:
                        part.progress(f"{world.name}: {number + 1} judged, {len(world.allowed)} allowed")
                _run(part, world, hostile)
        finally:
            ground.close()


def _worlds(ground: Ground, legal: Path) -> tuple[World, World]:
    words: list[str] = json.loads(legal.read_text(encoding="utf-8"))[STRICT]
    strict = PolicyLibrary(ground.root, None).get(STRICT)
    listed = next(rule.command_allow for rule in strict[0].profile.rules if rule.command_allow)
    rule = PermissionRule(specifier=ToolSpecifier(tool="Bash"), decision=Decision.ALLOW, command_allow=TOOLS)
    tools = [PolicyLayer(profile=PolicyProfile(name="tools", rules=(rule,)))]
    return (
        World("strict preset", strict, _split(listed), list(words), real=False),
        World("real tools", tools, _split(TOOLS), list(LEGAL_TOOLS), real=True),
    )


def _split(entries: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(entry.split()) for entry in entries)


def _every_gap(world: World, hostile: Hostile) -> list[str]:
    """Each attack between any two words of each legal command, at its ends, and joined to a word; shuffled."""
    found: list[str] = []
    for command in world.seeds:
        gaps = [0, *(at for at, letter in enumerate(command) if letter == " "), len(command)]
        found += [f"{command[:at]} {attack} {command[at:]}".strip(" ") for at in gaps for attack in ATTACKS]
        found += [f"{command}{attack}" for attack in ATTACKS]
    hostile.rng.shuffle(found)
    return found


def _case(part: Part, world: World, command: str, hostile: Hostile, root: Path) -> None:
    """One more attack; the evaluator never raises, and what it allows is kept and may grow."""
    try:
        decision = evaluate(world.layers, ToolCall(tool="Bash", command=command), root)
    except Exception as error:
        part.count("raised")
        part.fail(f"evaluate raised {error!r} for {command!r} (seed {part.seed})")
        return
    part.count(decision.decision.value)
    if decision.decision is Decision.ALLOW and command not in world.allowed:
        world.allowed[command] = None
        if len(command) < 300 and len(world.seeds) < MAX_SEEDS and hostile.rng.random() < 0.5:
            world.seeds.append(command)


def _attack(world: World, hostile: Hostile) -> str:
    rng = hostile.rng
    command = rng.choice(world.seeds)
    if rng.random() < 0.03:
        return hostile.text()
    for _ in range(rng.choice((0, 1, 1, 1, 1, 2, 2, 3))):
        command = _mutated(command, world, hostile)
    return command


def _mutated(command: str, world: World, hostile: Hostile) -> str:
    """The command with a token put in, a piece left out or doubled, a word replaced, or inside of another command."""
    rng, place = hostile.rng, hostile.rng.randint(0, len(command))
    kind = rng.random()
    if kind < 0.6:
        attack = rng.choice(ATTACKS)
        if rng.random() < 0.6:
            attack = f" {attack} "
            if rng.random() < 0.7:  # between words
                gaps = [at for at, letter in enumerate(command) if letter == " "]
                place = rng.choice([0, len(command), *gaps])
        return command[:place] + attack + command[place:]
    if kind < 0.7:
        wrapper, other = rng.choice(WRAPPERS), rng.choice(world.seeds)
        return (
            wrapper.format(command)
            if wrapper.count("{}") == 1
            else wrapper.replace("{}", command, 1).replace("{}", other)
        )
    if kind < 0.8:
        end = min(len(command), place + rng.randint(1, 6))
        return command[:place] + command[end:]
    if kind < 0.9:
        words = command.split(" ")
        words[rng.randrange(len(words))] = rng.choice(
            (rng.choice(ATTACKS), rng.choice(rng.choice(world.seeds).split(" ")))
        )
        return " ".join(words)
    end = min(len(command), place + rng.randint(1, 12))
    return command[:end] + command[place:]


def _run(part: Part, world: World, hostile: Hostile) -> None:
    """Run what was allowed; whatever was called, run by bash or changed beyond the list is an escape."""
    ground = Ground("run")
    try:
        runnable = [command for command in world.allowed if _can_be_run(command)]
        called = 0
        for number, (command, seen) in enumerate(StubWorld(ground, real=world.real).run(runnable), start=1):
            if number % 5000 == 0:
                part.progress(f"{world.name}: {number} of {len(runnable)} run")
            called += bool(seen.calls)
            strange = [call for call in seen.calls if not _is_listed(tuple(call), world)]
            strange += [[word] for word in seen.trace if not _is_program(word, world)]
            if strange or seen.changed:
                part.fail(
                    f"{world.name}: allowed {command!r}, which ran {strange[:3]} and changed {seen.changed[:3]}"
                    f" (seed {part.seed})"
                )
    finally:
        ground.close()
    part.facts[world.name] = (
        f"{len(world.allowed)} different commands allowed, {len(runnable)} run, {called} seen to call a program,"
        f" {len(world.seeds)} seeds"
    )
    if not called:
        part.fail(f"{world.name}: no allowed command was seen to run: the proof proves nothing")


def _is_listed(call: tuple[str, ...], world: World) -> bool:
    return any(call[: len(entry)] == entry for entry in world.listed)


def _is_program(word: str, world: World) -> bool:
    """A word that bash ran must be the first of an entry; quoted ones are read as bash would."""
    plain = word if _PLAIN_WORD.match(word) else "".join(shlex.split(word)[:1])
    return any(plain == entry[0] for entry in world.listed)


def _can_be_run(command: str) -> bool:
    return "\0" not in command and not any("\ud800" <= char <= "\udfff" for char in command)
