"""The options of known programs that run another program or touch another file: no rule covers them unasked."""

from __future__ import annotations

from dataclasses import dataclass

from codeforge_ls.policy.wordsets import names


@dataclass(frozen=True)
class Guard:
    """The options of one program that an allow rule does not cover unless it names them.

    ``short`` are letters, ``values`` the letters that take a value (the rest of their cluster is no option),
    ``known`` harmless long options that are also an abbreviation of a dangerous one. ``single_dash``: long options
    may have one dash (go, find). ``plain`` False: no further operand is covered (``make test deploy``).
    ``only``: the other way round, ``long`` and ``short`` are all that is harmless, and nothing may be abbreviated.
    """

    long: frozenset[str] = frozenset()
    short: str = ""
    values: str = ""
    known: frozenset[str] = frozenset()
    single_dash: bool = False
    plain: bool = True
    only: bool = False


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


def _only(
    long: str, short: str = "", values: str = "", *, single_dash: bool = False, plain: bool = True
) -> Guard:
    return Guard(names(long), short, values, single_dash=single_dash, plain=plain, only=True)


_GO = _only(
    """run v count short timeout race cover covermode coverpkg bench benchmem benchtime cpu failfast json list parallel
    shuffle skip tags vet p n x trimpath asan msan fullpath buildvcs""",
    single_dash=True,
)
PYTEST = _only(
    """quiet verbose exitfirst maxfail last-failed lf failed-first ff new-first nf stepwise sw stepwise-skip
    collect-only co durations durations-min tb color no-header no-summary show-capture showlocals capture strict
    strict-markers strict-config markers fixtures fixtures-per-test funcargs version help setup-show setup-only
    setup-plan deselect ignore ignore-glob noconftest keep-duplicates runxfail disable-warnings cov no-cov cov-branch
    cov-fail-under numprocesses maxprocesses dist timeout timeout-method reruns reruns-delay asyncio-mode count
    code-highlight doctest-modules cache-show cache-clear full-trace random-order""",
    short="qvxsl",
    values="rkmnW",
)
_AWK = _guard("file exec load include dump-variables profile pretty-print debug", "fEildopD", "Fv")
_GREP = _guard("file devices", short="fD", values="ABCemd")
GUARDS: dict[str, Guard] = {
    "git": _guard(
        """output ext-diff textconv no-index config-env exec-path git-dir work-tree namespace exec upload-pack
        receive-pack open-files-in-pager paginate show-signature super-prefix template separate-git-dir config edit
        pathspec-from-file attr-source output-directory orderfile gpg-sign upload-archive to-command""",
        short="cCOo",
        known="text exec-batch no-patch no-color no-ext-diff no-textconv no-renames no-merges",
    ),
    "pytest": PYTEST,
    "py.test": PYTEST,
    "go": _GO,
    "npm": _only("silent quiet verbose if-present workspaces include-workspace-root", "s", "w"),
    "make": _only(
        """jobs keep-going silent quiet just-print dry-run recon always-make no-builtin-rules no-builtin-variables
        question debug print-directory no-print-directory trace output-sync warn-undefined-variables version help""",
        "knsqBrRdwvh",
        "jO",
        plain=False,
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
    "ssh": _guard("", short="oFEiJLRDwWSOQAIKMXYG"),
    "scp": _guard("", short="oFSiJPD"),
    "sftp": _guard("", short="oFSiJPDbs"),
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
    "awk": _AWK,
    "gawk": _AWK,
    "mawk": _AWK,
    "jq": _guard("from-file rawfile slurpfile", "fL"),
    "diff": _guard("to-file from-file output", ""),
    "base64": _guard("", ""),
    "env": _guard("split-string chdir", "SC"),
}
# What a subcommand of git adds: words and letters that make it run something else.
GIT_RUNS: dict[str, frozenset[str]] = {
    "rebase": names("-x -i --interactive"),
    "bisect": names("run view visualize"),
    "submodule": names("foreach update"),
    "config": names("--edit -e"),
    "grep": names("-O"),
    "clone": names("-u --recurse-submodules --recursive"),
    "help": names("-w -i --web --info"),
    "commit": names("-e --edit"),
    "add": names("-e -p -i --edit --interactive --patch"),
    "stash": names("-p --patch"),
}
# A rule that says only ``git`` promises what these do; anything else may be an alias or runs what it is told.
GIT_PLAIN = names(
    """status diff log show blame grep ls-files ls-tree branch tag rev-parse rev-list describe shortlog cat-file
    diff-tree diff-index diff-files merge-base name-rev show-ref for-each-ref count-objects reflog cherry whatchanged
    add commit rm mv restore switch checkout stash reset revert cherry-pick merge rebase fetch pull push clone remote
    apply am format-patch init clean notes worktree help version range-diff show-branch check-ignore check-attr
    var annotate bisect submodule"""
)
