"""The verbs that look: ``search``, ``map`` and ``index``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from codeforge_ls.cli.output import BOLD, CYAN, DIM, YELLOW, safe
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

    map_help = add_verb(
        verbs,
        "map",
        repo_map,
        "Draw the repo map: the definitions that matter most, within a budget",
        """codeforge map
codeforge map --budget 4096 --focus src/server.py --query "session handling\"""",
    )
    map_help.add_argument("--budget", type=int, default=1024, metavar="N", help="tokens (1024)")
    map_help.add_argument(
        "--focus", action="append", default=[], metavar="PATH", help="rank from here; repeatable"
    )
    map_help.add_argument("--query", default="", metavar="Q", help="rank for these words")

    index_help = add_verb(
        verbs,
        "index",
        index,
        "Bring the index up to date, or say how it is",
        """codeforge index
codeforge index --status --json
codeforge index --skipped""",
    )
    which = index_help.add_mutually_exclusive_group()
    which.add_argument("--status", action="store_true", help="only say how complete and fresh it is")
    which.add_argument("--skipped", action="store_true", help="list the files that are left out, and why")
    which.add_argument("--force", action="store_true", help="read every file again")


def search(context: Context) -> int:
    """Print hits, best first."""
    given, out = context.arguments, context.out
    wanted = {"query": given.query, "limit": given.limit, "path_glob": given.glob, "group_by": given.group}
    answer = context.daemon().call("search", wanted)
    out.json(answer)
    for hit in answer["hits"]:
        place = out.paint(f"{hit['path']}:{hit['start_line']}", CYAN)
        out.line(place, out.paint(f"{hit['symbol']} {hit['kind']}".strip(), BOLD))
        for line in _first_lines(hit["text"]) if given.group == "chunk" else []:
            out.line("   ", safe(line, lines=True))
    if not answer["hits"]:
        out.line("no hits")
    _say_how_complete(context, answer["index"])
    return 0


def _first_lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()][:3]


def _say_how_complete(context: Context, state: dict[str, Any]) -> None:
    if state["state"] != "ready" or state["stale_files"]:
        message = (
            f"index {state['state']}, {state['percent']:.0f} %, {state['stale_files']} files not yet fresh"
        )
        context.out.line(context.out.paint(message, YELLOW))


def repo_map(context: Context) -> int:
    """Print the map."""
    given, out = context.arguments, context.out
    wanted = {"budget_tokens": given.budget, "focus": given.focus, "query": given.query}
    answer = context.daemon().call("repomap", wanted)
    out.json(answer)
    out.text(answer["text"].rstrip("\n"))
    facts = f"{answer['tokens']} of {answer['budget']} tokens, {answer['files']} files, {answer['symbols']} symbols"
    out.line(out.paint(f"-- {facts}, {answer['cut']} more did not fit", DIM))
    _say_how_complete(context, answer["index"])
    return 0


def index(context: Context) -> int:
    """Build, or tell the state."""
    given, out = context.arguments, context.out
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
        with _progress_bar(context) as on_progress:
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
    if answer["message"]:
        out.line(out.paint(answer["message"], YELLOW))
    return 1 if answer["state"] == "error" else 0


@contextmanager
def _progress_bar(context: Context) -> Iterator[Callable[[float | None, str], None] | None]:
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
