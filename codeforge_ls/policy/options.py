"""What single arguments of known programs can do: run another program, read or write another file.

A rule such as ``git diff`` promises what that program does, not what ``--output`` or ``--ext-diff`` add to it.
GNU abbreviations count: ``--outp`` is ``--output``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import zip_longest

from codeforge_ls.policy.wordsets import names


@dataclass(frozen=True)
class Guard:
    """The options of one program that an allow rule does not cover unless it names them.

    ``short`` are letters, ``values`` the letters that take a value (the rest of their cluster is no option),
    ``known`` harmless long options that are also an abbreviation of a dangerous one. ``single_dash``: long options
    may have one dash (go, find). ``plain`` False: no further operand is covered (``make test deploy``).
    """

    long: frozenset[str] = frozenset()
    short: str = ""
    values: str = ""
    known: frozenset[str] = frozenset()
    single_dash: bool = False
    plain: bool = True


def _guard(
    long: str,
    short: str = "",
    values: str = "",
    *,
    known: str = "",
    single_dash: bool = False,
    plain: bool = True,
) -> Guard:
    return Guard(names(long), short, values, names(known), single_dash, plain)


_GO = _guard(
    """exec toolexec o c coverprofile cpuprofile memprofile blockprofile mutexprofile trace outputdir overlay modfile
    mod modcacherw C ldflags gcflags asmflags gccgoflags compiler pkgdir vettool args i a fuzz fuzzcachedir work
    testlogfile gocoverdir""",
    single_dash=True,
)
_PYTEST = _guard(
    """rootdir basetemp confcutdir pyargs override-ini config-file junitxml junit-xml junit-prefix resultlog
    result-log log-file debug cache-dir pdbcls pdb trace cov-config cov-report html self-contained-html pastebin
    rsyncdir rsh tx plugin doctest-glob inifile import-mode report-log trace-config capture-fd""",
    short="pco",
    values="rkmnW",
)
_GREP = _guard("file devices", short="fD", values="ABCemd")
GUARDS: dict[str, Guard] = {
    "git": _guard(
        """output ext-diff textconv no-index config-env exec-path git-dir work-tree namespace exec upload-pack
        receive-pack open-files-in-pager paginate show-signature super-prefix template separate-git-dir config edit
        pathspec-from-file attr-source output-directory orderfile gpg-sign upload-archive to-command""",
        short="cCOo",
        known="text exec-batch no-patch no-color no-ext-diff no-textconv no-renames no-merges",
    ),
    "pytest": _PYTEST,
    "py.test": _PYTEST,
    "go": _GO,
    "npm": _guard(
        """prefix script-shell globalconfig userconfig node-options scripts-prepend-node-path shell registry global
        cache init-module editor viewer git node-gyp call package""",
        short="gCc",
    ),
    "make": _guard(
        "file makefile directory include-dir eval load-average old-file what-if", "fCIoW", plain=False
    ),
    "find": _guard("exec execdir ok okdir delete fprint fprint0 fprintf fls files0-from", single_dash=True),
    "rg": _guard(
        """pre pre-glob hostname-bin search-zip follow file ignore-file no-ignore hidden unrestricted
        hyperlink-format no-ignore-vcs no-ignore-dot text-encoding""",
        short="zLfu.",
        values="egjmtTABCMrdE",
        known="files files-with-matches files-without-match text",
    ),
    "grep": _GREP,
    "egrep": _GREP,
    "fgrep": _GREP,
    "tar": _guard(
        """use-compress-program to-command checkpoint-action info-script new-volume-script rmt-command rsh-command
        absolute-names directory extract get create append update delete concatenate catenate remove-files
        files-from exclude-from transform xform listed-incremental index-file volno-file one-top-level
        checkpoint totals wildcards-match-slash""",
        short="IFPCTxcruAgjK",
    ),
    "ssh": _guard("", short="oFEiJLRDwWSOQ"),
    "scp": _guard("", short="oFSiJP"),
    "rsync": _guard(
        """rsh rsync-path daemon config files-from log-file write-batch only-write-batch read-batch remote-option
        copy-as partial-dir backup-dir temp-dir compare-dest link-dest copy-dest delete remove-source-files
        password-file exclude-from include-from copy-unsafe-links early-input""",
        short="eM",
        values="fB",
    ),
    "sort": _guard("output compress-program files0-from temporary-directory random-source", "oT", "ktS"),
    "tree": _guard("fromfile", short="o"),
    "less": _guard("log-file LOG-FILE lesskey-file tag", short="oOktT"),
    "man": _guard("pager html config-file local-file browser", "PHCl"),
    "date": _guard("set file", "sf"),
    "wc": _guard("files0-from"),
    "file": _guard("compile magic-file files-from", "Cmf"),
    "ruff": _guard("config output-file add-noqa isolated cache-dir", "o"),
    "mypy": _guard(
        """config-file python-executable html-report xml-report txt-report linecount-report any-exprs-report
        cobertura-xml-report xslt-html-report xslt-txt-report lineprecision-report cache-dir junit-xml
        install-types custom-typeshed-dir plugins""",
    ),
    "black": _guard("config", ""),
    "cargo": _guard("config manifest-path target-dir out-dir artifact-dir", "Z"),
    "eslint": _guard("output-file config rulesdir plugin resolve-plugins-relative-to parser format", "ocf"),
    "tsc": _guard("project build outdir outfile", "pb", single_dash=True),
    "curl": _guard("output remote-name config upload-file dump-header cookie-jar trace", "oOKTDc"),
    "wget": _guard("output-document output-file directory-prefix execute use-askpass input-file", "OoPei"),
    "awk": _guard("file exec load include", "fEil"),
    "jq": _guard("from-file rawfile slurpfile", "fL"),
    "diff": _guard("to-file from-file output", ""),
    "base64": _guard("", ""),
    "env": _guard("split-string chdir", "SC"),
}
_SED_SCRIPT = re.compile(
    r"(?:(?:\d+|\$)?(?:,(?:\+?\d+|\$))?|/[^/\n]*/)?(?:[pdq=]|s([/|,#])(?:(?!\1)[^\\\n])*\1(?:(?!\1)[^\\\n])*\1[gpiI\d]*)\Z"
)
_GLOB_SAFE = names("find grep egrep fgrep wc head tail file")
_SED_PLAIN = names("-n -E -r -z -u --quiet --silent --regexp-extended -nE -En -nr")


def doubtful_argument(argv: tuple[str, ...], covered: int) -> str | None:
    """The first argument after ``covered`` words that does more than the program's name promises; None if none does.

    ``covered`` is how many words the rule itself spelled out: what it names, it allows.
    """
    name, start = argv[0], 1
    rest = argv[max(start, covered) :]
    if name == "sed":
        return _sed(rest)
    if re.match(r"python[\d.]*\Z", name) and len(argv) > 2 and argv[1] == "-m":
        name = argv[2]
    if name == "tar" and rest and not rest[0].startswith("-"):
        rest = ("-" + rest[0], *rest[1:])
    guard = GUARDS.get(name)
    if guard is None:
        return None
    for word, after in zip_longest(rest, rest[1:], fillvalue=""):
        if word == "-p" and after.startswith("no:") and guard is _PYTEST:
            continue  # only switches a plugin off
        if word == "--" and name not in ("npm", "go"):
            return next((late for late in rest if late.startswith("@")), None) if guard.plain else word
        if _is_doubtful(word, name, guard):
            return word
    return None


def _is_doubtful(word: str, name: str, guard: Guard) -> bool:
    if word == "--":
        return True  # what follows goes to a program we do not know
    if word.startswith(("*", "?", "[")):
        # a file may be named like an option; these programs have no harmful option with a dot in it
        return name not in _GLOB_SAFE or "." not in word
    if word.startswith("@") and name != "git":
        return True  # @file holds further options
    if word.startswith("--"):
        return _long(word[2:].split("=", 1)[0], guard)
    if word.startswith("-") and len(word) > 1:
        if guard.single_dash:
            return _long(word[1:].split("=", 1)[0].removeprefix("test."), guard)
        if name in ("pytest", "py.test") and word.startswith("-pno:"):
            return False
        return _cluster(word[1:], guard)
    if not guard.plain:
        return True
    return name in ("npm", "cargo") and "=" in word


def _long(option: str, guard: Guard) -> bool:
    if option in guard.long:
        return True
    if option in guard.known or not option:
        return False
    return not guard.single_dash and any(dangerous.startswith(option) for dangerous in guard.long)


def _cluster(letters: str, guard: Guard) -> bool:
    for letter in letters:
        if letter in guard.short:
            return True
        if letter in guard.values:
            return False
    return False


def _sed(words: tuple[str, ...]) -> str | None:
    script_seen, expects = False, False
    for word in words:
        if expects or (not word.startswith("-") and not script_seen):
            script_seen, expects = True, False
            if not _SED_SCRIPT.match(word):
                return word
        elif word in ("-e", "--expression"):
            expects = True
        elif word.startswith("-") and word not in _SED_PLAIN:
            return word
    return None
