"""The verbs that look: ``search``, ``map``, ``graph`` and ``index``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from codeforge_ls.cli.output import BOLD, CYAN, DIM, GREEN, YELLOW, safe
from codeforge_ls.cli.verb import Context, Subparsers, add_verb


def declare(verbs: Subparsers) -> None:
    """Add the verbs to the command line."""
    search_help = add_verb(
        verbs,
        "search",
        search,
        "Find code by words, names or a question",
        """codeforge search "where are retries counted"
codeforge search parse_config --limit 5 --glob 'src/**'
codeforge search "rate limit" --group file --json""",
    )
    search_help.add_argument("query", help="what to look for")
    search_help.add_argument("--limit", type=int, default=10, metavar="N", help="how many hits (10)")
    search_help.add_argument("--glob", metavar="PATTERN", help="only paths that match")
    search_help.add_argument(
        "--group", choices=("chunk", "file"), default="chunk", help="hits are pieces or files"
    )

    search_help.add_argument("--language", metavar="NAME", help="only files of this language")
    search_help.add_argument(
        "--kind", metavar="KIND", help="only hits in such a definition: function, class, ..."
    )
    search_help.add_argument("--explain", action="store_true", help="say why each hit is there")

    map_help = add_verb(
        verbs,
        "map",
        repo_map,
        "Draw the repo map: the definitions that matter most, within a budget",
        """codeforge map
codeforge map --budget 4096 --focus src/server.py --query "session handling"
codeforge map --format svg --output map.svg""",
    )
    map_help.add_argument("--budget", type=int, default=1024, metavar="N", help="tokens (1024)")
    map_help.add_argument(
        "--focus", action="append", default=[], metavar="PATH", help="rank from here; repeatable"
    )
    map_help.add_argument("--query", default="", metavar="Q", help="rank for these words")
    map_help.add_argument(
        "--format",
        choices=("text", "json", "svg", "dot"),
        default="text",
        help="lines, entries, or a picture",
    )
    map_help.add_argument("--files", type=int, default=30, metavar="N", help="files in a picture (30)")
    map_help.add_argument("--output", metavar="FILE", help="write there instead of to the terminal")

    graph_help = add_verb(
        verbs,
        "graph",
        graph,
        "Walk the code graph: who calls, imports, extends, tests what, from hits, a symbol or a file",
        """codeforge graph "where are retries counted"
codeforge graph --symbol Index.search --hops 1
codeforge graph --path src/server.py --edges import,test
codeforge graph --owners src/server.py""",
    )
    graph_help.add_argument("query", nargs="?", help="begin at what this finds")
    graph_help.add_argument("--symbol", metavar="NAME", help="begin at this definition")
    graph_help.add_argument("--path", metavar="PATH", help="begin at this file, or take the symbol in it")
    graph_help.add_argument("--owners", metavar="PATH", help="only say who answers for this file")
    graph_help.add_argument(
        "--hops", type=int, metavar="N", help="edges in a row (else the setting search.walk_hops)"
    )
    graph_help.add_argument("--limit", type=int, default=10, metavar="N", help="how many nodes (10)")
    graph_help.add_argument(
        "--edges", metavar="KINDS", help="some of call,import,inherit,test,pair,owner (all but owner)"
    )

    index_help = add_verb(
        verbs,
        "index",
        index,
        "Bring the index up to date, or say how it is",
        """codeforge index
codeforge index --status --json
codeforge index --skipped
codeforge index explain src/server.py""",
    )
    index_help.add_argument(
        "what", nargs="?", choices=("explain",), help="say why a file is, or is not, in the index"
    )
    index_help.add_argument("path", nargs="?", help="the file to explain")
    which = index_help.add_mutually_exclusive_group()
    which.add_argument("--status", action="store_true", help="only say how complete and fresh it is")
    which.add_argument("--skipped", action="store_true", help="list the files that are left out, and why")
    which.add_argument("--force", action="store_true", help="read every file again")


def search(context: Context) -> int:
    """Print hits, best first."""
    given, out = context.arguments, context.out
    wanted = {"query": given.query, "limit": given.limit, "path_glob": given.glob, "group_by": given.group}
    wanted |= {"language": given.language, "kind": given.kind, "explain": given.explain}
    answer = context.daemon().call("search", wanted)
    out.json(answer)
    for hit in answer["hits"]:
        place = out.paint(f"{hit['path']}:{hit['start_line']}", CYAN)
        out.line(place, out.paint(f"{hit['symbol']} {hit['kind']}".strip(), BOLD))
        for line in _first_lines(hit["text"]) if given.group == "chunk" else []:
            out.line("   ", safe(line, lines=True))
        if hit.get("explain"):
            out.line("   ", out.paint(_why(hit["explain"]), DIM))
    if not answer["hits"]:
        out.line("no hits")
    _say_how_complete(context, answer["index"])
    return 0


def _why(explanation: dict[str, Any]) -> str:
    legs = [f"{name} rank {leg['rank']} ({leg['score']:g})" for name, leg in explanation["legs"].items()]
    rewards = [f"{rule} +{amount:g}" for rule, amount in explanation["rewards"].items()]
    factors = [f"{rule} x{factor:g}" for rule, factor in explanation["factors"].items()]
    return "; ".join([*legs, *rewards, *factors])


def _first_lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()][:3]


def _say_how_complete(context: Context, state: dict[str, Any]) -> None:
    if state["state"] != "ready" or state["stale_files"]:
        message = (
            f"index {state['state']}, {state['percent']:.0f} %, {state['stale_files']} files not yet fresh"
        )
        context.out.line(context.out.paint(message, YELLOW))


def repo_map(context: Context) -> int:
    """Print the map, or draw it."""
    given, out = context.arguments, context.out
    if given.format in ("svg", "dot"):
        return _picture(context)
    wanted = {"budget_tokens": given.budget, "focus": given.focus, "query": given.query}
    answer = context.daemon().call("repomap", wanted)
    if given.format == "json" and not out.as_json:
        _write(context, json.dumps(answer, indent=2, ensure_ascii=True) + "\n")
        return 0
    out.json(answer)
    if given.output:
        _write(context, answer["text"])
    else:
        out.text(answer["text"].rstrip("\n"))
    facts = f"{answer['tokens']} of {answer['budget']} tokens, {answer['files']} files, {answer['symbols']} symbols"
    more = (
        f"{answer['cut']} more in {answer['cut_files']} other files did not fit"
        if answer["cut"]
        else "all of it"
    )
    out.line(out.paint(f"-- {facts}, {more}", DIM))
    _say_how_complete(context, answer["index"])
    return 0


def _picture(context: Context) -> int:
    given = context.arguments
    wanted = {"format": given.format, "files": given.files, "focus": given.focus, "query": given.query}
    answer = context.daemon().call("repomap", wanted)
    context.out.json(answer)
    _write(context, answer["picture"])
    facts = f"{answer['files']} files and {answer['edges']} edges drawn, {answer['cut_files']} files left out"
    if given.output:
        context.out.line(context.out.paint(f"-- {facts}", DIM))
        _say_how_complete(context, answer["index"])
    return 0


def _write(context: Context, text: str) -> None:
    """Into the file of ``--output``, else to the terminal."""
    if context.arguments.output:
        Path(context.arguments.output).write_text(text, encoding="utf-8", errors="replace")
    else:
        context.out.text(text.rstrip("\n"))


def graph(context: Context) -> int:
    """Print what a walk reaches, each with the way to it."""
    given, out = context.arguments, context.out
    if given.owners:
        answer = context.daemon().call("graph.owners", {"path": given.owners})
        out.json(answer)
        out.line(out.paint("owners ", BOLD), ", ".join(map(safe, answer["owners"])) or "none named")
        out.line(
            out.paint("authors", BOLD),
            ", ".join(map(safe, answer["authors"])) or "none in the latest commits",
        )
        return 0
    names = ("query", "symbol", "path", "hops", "limit")
    wanted = {name: value for name in names if (value := getattr(given, name)) is not None}
    if given.edges:
        wanted["edges"] = given.edges.split(",")
    answer = context.daemon().call("graph.search", wanted)
    out.json(answer)
    for start in answer["start"]:
        out.line(out.paint("from", DIM), safe(start))
    for node in answer["nodes"]:
        place = out.paint(f"{node['path']}:{node['line']}", CYAN)
        name = node["name"].partition("::")[2]
        out.line(f"{node['score']:.2f}", place, out.paint(f"{name} {node['kind']}".strip(), BOLD))
        for step in node["why"]:
            out.line("      ", out.paint(f"{step['source']} -{step['kind']}-> {step['target']}", DIM))
    if not answer["nodes"]:
        out.line("nothing is reached from there")
    capped = ", cut off there" if answer["capped"] else ""
    out.line(out.paint(f"-- {answer['visited']} nodes visited{capped}", DIM))
    _say_how_complete(context, answer["index"])
    return 0


def _explain(context: Context) -> int:
    answer = context.daemon().call("index.explain", {"path": context.arguments.path})
    out = context.out
    out.json(answer)
    known = out.paint("indexed", GREEN) if answer["indexed"] else out.paint("not indexed", YELLOW)
    out.line(known, safe(answer["reason"]), out.paint(f"({answer['rule']})", DIM) if answer["rule"] else "")
    if answer["indexed"]:
        facts = f"{answer['language']}, {answer['size']} bytes, {answer['lines']} lines"
        out.line(f"{safe(facts)}, {answer['chunks']} chunks, {answer['symbols']} symbols")
    if answer["stale"]:
        out.line(out.paint("the file on disk is newer", YELLOW))
    return 0 if answer["indexed"] else 1


def index(context: Context) -> int:
    """Build, or tell the state."""
    given, out = context.arguments, context.out
    if given.what == "explain":
        if not given.path:
            out.note("`codeforge index explain` needs a path")
            return 2
        return _explain(context)
    daemon = context.daemon()
    if given.skipped:
        answer = daemon.call("index.skipped", {"limit": 10_000})
        out.json(answer)
        out.table(
            ("reason", "bytes", "path"), [(f["reason"], f["size"], f["path"]) for f in answer["skipped"]]
        )
        return 0
    if given.status:
        answer = daemon.call("index.status")
    else:
        with progress_bar(context) as on_progress:
            answer = daemon.call("index.build", {"force": given.force}, on_progress)
    out.json(answer)
    state = f"{answer['state']}, {answer['percent']:.0f} %"
    out.line(
        out.paint(state, BOLD),
        f"{answer['files']} files, {answer['symbols']} symbols, {answer['chunks']} chunks",
    )
    out.line(
        f"{answer['files_per_second']:.0f} files/s, {answer['skipped']} skipped, {answer['stale_files']} stale"
    )
    out.line("search:", ", ".join(f"{leg['name']} {leg['percent']:.0f} %" for leg in answer["legs"]))
    for note in (
        answer["message"],
        *(f"{leg['name']}: {leg['note']}" for leg in answer["legs"] if leg["note"]),
    ):
        if note:
            out.line(out.paint(safe(note), YELLOW))
    return 1 if answer["state"] == "error" else 0


@contextmanager
def progress_bar(context: Context) -> Iterator[Callable[[float | None, str], None] | None]:
    """A bar on a terminal, nothing elsewhere."""
    if not context.out.is_terminal or context.out.as_json:
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        BarColumn(),
        TextColumn("{task.percentage:3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=Console(no_color=not context.out.color), transient=True) as progress:
        task = progress.add_task("", total=100)

        def advance(percent: float | None, message: str) -> None:
            progress.update(task, completed=percent, description=safe(message).replace("[", r"\["))

        yield advance
