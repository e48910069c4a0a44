"""Commands inside commands: what wrappers, shells, ``find -exec`` and interpreters would run in turn."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field

from codeforge_ls.policy.wordsets import names

SHELLS = names("sh bash dash zsh ksh ash fish rbash mksh busybox toybox")
# Option letters and long names that take the next word, and how many plain words stand before the command.
_PRECISE: dict[str, tuple[frozenset[str], int]] = {
    "env": (frozenset({"-u", "-C", "--unset", "--chdir"}), 0),
    "timeout": (frozenset({"-k", "-s", "--kill-after", "--signal"}), 1),
    "nice": (frozenset({"-n", "--adjustment"}), 0),
    "ionice": (frozenset({"-c", "-n", "--class", "--classdata"}), 0),
    "nohup": (frozenset(), 0),
    "setsid": (frozenset(), 0),
    "time": (frozenset({"-f", "-o", "--format", "--output"}), 0),
    "stdbuf": (frozenset({"-i", "-o", "-e"}), 0),
    "command": (frozenset(), 0),
    "builtin": (frozenset(), 0),
    "exec": (frozenset({"-a"}), 0),
    "coproc": (frozenset(), 0),
    "xargs": (names("-I -n -P -d -a -E -L -s --max-args --max-procs --delimiter --arg-file"), 0),
    "sudo": (names("-u -g -h -p -C -D -R -T -U --user --group --chdir"), 0),
    "doas": (frozenset({"-u", "-C"}), 0),
}
# These run another program too, but their options are not known here: every word may be that program.
_LOOSE = names("""chroot watch strace ltrace unshare flock taskset chrt runuser parallel unbuffer systemd-run
    firejail proot
    fakeroot rlwrap pipx uvx uv npx bunx pnpx poetry pipenv hatch rye pdm nox tox direnv entr script setarch
    linux32 linux64 dbus-run-session start-stop-daemon setpriv capsh gosu su pkexec bwrap nsenter ssh docker
    podman kubectl hyperfine caffeinate mise asdf rtx rustup""")
INTERPRETERS = re.compile(
    r"(?:python[\d.]*|pypy\d*|perl|ruby|node|nodejs|deno|bun|php|lua\w*|tclsh|wish|expect|[gmn]?awk|sqlite3|vim?|nvim|"
    r"ed|ex|emacs|gdb|lldb|osascript|make|gmake|git|sed|gsed|tar|psql|mysql|R|Rscript|julia|pwsh|scala|ghc|irb)\Z"
)
_CODE_WORD = re.compile(r"[A-Za-z0-9_./+-]+")
_OPAQUE_BUILTINS = names("hash enable shopt bind complete")
DANGEROUS_VARIABLES = re.compile(
    r"(?:PATH|IFS|ENV|BASH\w*|LD_\w+|DYLD_\w+|GIT_\w+|PAGER|EDITOR|VISUAL|BROWSER|PYTHON\w+|PYTEST_\w+|NODE_\w+|npm_\w+|"
    r"NPM_\w+|PERL\w+|RUBY\w+|LESS\w*|PS4|PROMPT_COMMAND|SHELL\w*|CDPATH|GLOBIGNORE|MAKEFLAGS|MAKEFILES|GOFLAGS|"
    r"GO\w*|CARGO_\w+|RUSTC\w*|CC|CXX|JAVA_TOOL_OPTIONS|_JAVA_OPTIONS|HOME|XDG_\w+|TMPDIR|SSH_\w+|\w*_proxy|\w*_PROXY)\Z"
)
# Any other variable may be an option in disguise, as TAR_OPTIONS and RIPGREP_CONFIG_PATH are.
HARMLESS_VARIABLES = names("LANG LC_ALL LC_CTYPE TZ CI NO_COLOR FORCE_COLOR COLUMNS LINES TERM DEBUG VERBOSE")
_SETTERS = frozenset({"env", "sudo", "doas"})
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
_MAX_MENTIONS = 64


@dataclass
class Inner:
    """What one command runs in turn.

    ``commands`` are known exactly; ``code`` is shell text; ``mentions`` may be run, which is enough to deny;
    ``opaque`` says why nobody can tell, ``loose`` why the programs are known and their arguments are not.
    """

    commands: list[tuple[str, ...]] = field(default_factory=list)
    code: list[str] = field(default_factory=list)
    mentions: list[tuple[str, ...]] = field(default_factory=list)
    opaque: str = ""
    loose: str = ""


def program(argv: tuple[str, ...]) -> str:
    """The name a deny rule sees: without folder and case."""
    return argv[0].rsplit("/", 1)[-1].casefold() if argv else ""


def look_inside(argv: tuple[str, ...]) -> Inner:
    """What ``argv`` would run in turn."""
    name, inner = program(argv), Inner()
    if name in SHELLS:
        _shell(argv, inner)
    elif name in _PRECISE:
        _wrapper(name, argv, inner)
    elif name in _LOOSE:
        inner.mentions = [argv[index:] for index in range(1, min(len(argv), _MAX_MENTIONS))]
        inner.code = [word for word in argv[1:] if " " in word]
    elif name == "find":
        _find(argv, inner)
    elif name == "eval":
        inner.code = [" ".join(argv[1:])]
        inner.opaque = "eval builds its command at run time"
    elif name in ("trap", "alias"):
        inner.code = [word.split("=", 1)[-1] for word in argv[1:]]
        inner.opaque = f"{name} changes what later words mean"
    elif name in _OPAQUE_BUILTINS:
        inner.opaque = f"{name} changes what later words mean"
    elif name in ("export", "declare", "typeset", "local", "readonly"):
        _variables(name, argv, inner)
    if INTERPRETERS.match(name):
        _mention_code(argv, inner)
    return inner


def _shell(argv: tuple[str, ...], inner: Inner) -> None:
    words = iter(argv[1:])
    for word in words:
        if word in ("-o", "+o", "-O", "+O", "--rcfile", "--init-file"):
            next(words, None)
        elif word.startswith("-") and not word.startswith("--") and "c" in word:
            code = next((rest for rest in words if not rest.startswith("-")), None)
            inner.code = [code] if code is not None else []
            inner.opaque = "" if code is not None else "a shell without its program"
            return
        elif not word.startswith(("-", "+")):
            inner.mentions = [argv[argv.index(word) :]]  # busybox wget, or a script
            return
    inner.opaque = f"{argv[0]} reads its program from a pipe or a here-document"


def _wrapper(name: str, argv: tuple[str, ...], inner: Inner) -> None:
    values, skip = _PRECISE[name]
    inner.mentions = [argv[index:] for index in range(1, min(len(argv), _MAX_MENTIONS))]
    index = 1
    while index < len(argv):
        word = argv[index]
        if name == "env" and word.startswith(("-S", "--s")):
            inner.code = [" ".join(argv[index:]).split("S", 1)[-1].split("=", 1)[-1]]
            inner.opaque = "env -S splits a string into a command"
            return
        if word == "--":
            index += 1
            break
        if name in _SETTERS and _ASSIGNMENT.match(word):
            _variables(name, (name, word), inner)
        elif name == "env" and word.startswith("-"):
            inner.loose = f"env {word} changes what later programs find"
            index += word in values
        elif not word.startswith("-") or word == "-":
            break
        elif word in values:
            index += 1
        index += 1
    rest = argv[index + skip :]
    if rest:
        inner.commands = [rest]
    if name in ("sudo", "doas"):
        inner.opaque = inner.opaque or f"{name} adds rights"
    elif name == "xargs":
        inner.loose = "xargs adds arguments that are not on the line"
        runs = program(rest)
        replaces = any(word.startswith(("-I", "-i", "--replace")) for word in argv[1:])
        if replaces or runs in SHELLS or runs in _PRECISE or runs in _LOOSE or INTERPRETERS.match(runs):
            inner.opaque = "xargs may turn its input into a program"


def _find(argv: tuple[str, ...], inner: Inner) -> None:
    for index, word in enumerate(argv):
        if word in ("-exec", "-execdir", "-ok", "-okdir"):
            rest = argv[index + 1 :]
            stop = next((at for at, part in enumerate(rest) if part in (";", "+", "\\;")), len(rest))
            inner.commands.append(rest[:stop])


def _variables(name: str, argv: tuple[str, ...], inner: Inner) -> None:
    for word in argv[1:]:
        variable = word.split("=", 1)[0]
        if "=" not in word or variable in HARMLESS_VARIABLES:
            continue
        if DANGEROUS_VARIABLES.match(variable):
            inner.opaque = f"{name} sets {variable}"
        else:
            inner.loose = f"{name} sets {variable}, which may choose what runs"


_CODE_OPTION = re.compile(r"(?:-\w*[ceErpB]|--(?:eval|command|exec|expression|print|execute))\Z")


def _mention_code(argv: tuple[str, ...], inner: Inner) -> None:
    name = program(argv)
    for before, word in itertools.pairwise(argv):
        if name == "git":
            is_code = "!" in word
        elif name in ("make", "gmake", "tar"):
            is_code = "=" in word
        else:
            is_code = bool(_CODE_OPTION.match(before)) or "!" in word or ("awk" in name and "(" in word)
        if is_code:
            inner.mentions.extend((token,) for token in _CODE_WORD.findall(word)[:_MAX_MENTIONS])
