"""What every verb is given: its arguments, the output, and the way to the daemon."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from codeforge_ls.cli.connection import Connection, find_root
from codeforge_ls.cli.output import Output
from codeforge_ls.rendezvous import Options

Subparsers = Any  # argparse has no public name for what add_subparsers returns
Verb = Callable[["Context"], int]


@dataclass
class Context:
    """One call of ``codeforge``. The connection is made when a verb first needs it."""

    arguments: argparse.Namespace
    out: Output
    _connection: Connection | None = field(default=None, repr=False)

    @property
    def root(self) -> Path:
        """The workspace. Raises ``Refused`` for ``$HOME``, ``/`` and what is no folder."""
        return Path(find_root(self.arguments.root))

    @property
    def overrides(self) -> dict[str, str]:
        """The settings given with ``--set``."""
        return {name: value for name, _, value in (pair.partition("=") for pair in self.arguments.set)}

    def daemon(self, *, start: bool = True) -> Connection:
        """The connection to the workspace's daemon, which is started when there is none and ``start``."""
        if self._connection is None:
            options = Options(None, self.arguments.config, tuple(self.arguments.set))
            self._connection = Connection(str(self.root), options, start=start)
            if not self._connection.started and options.for_daemon():
                self.out.note("a daemon runs already; --config and --set need `codeforge daemon restart`")
            self._connection.on_replay = lambda: self.out.note("this key was used before: the answer of then")
        return self._connection

    def close(self) -> None:
        """End the session, if there is one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def accept_key(parser: argparse.ArgumentParser) -> None:
    """Let a verb that changes something be repeated safely; ``keyed`` passes the key on."""
    parser.add_argument(
        "--idempotency-key",
        metavar="KEY",
        help="repeat the verb with the same key and it is done once; kept for a day",
    )


def keyed(given: argparse.Namespace, arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments of the operation that a verb is about, with its key if it has one."""
    key = given.idempotency_key
    return arguments if key is None else {**arguments, "idempotencyKey": key}


def common_options(*, top: bool) -> argparse.ArgumentParser:
    """The options that every verb takes, before or after its name."""
    missing: Any = None if top else argparse.SUPPRESS
    options = argparse.ArgumentParser(add_help=False)
    group = options.add_argument_group("everywhere")
    group.add_argument(
        "--root", metavar="DIR", default=missing, help="the workspace (else the current folder's git root)"
    )
    group.add_argument(
        "--config", metavar="FILE", default=missing, help="settings file instead of the user's"
    )
    group.add_argument(
        "--set",
        metavar="A.B=VALUE",
        action="append",
        default=[] if top else argparse.SUPPRESS,
        help="one setting, above all files; may be repeated",
    )
    quiet: Any = False if top else argparse.SUPPRESS
    group.add_argument("--json", action="store_true", default=quiet, help="print JSON, one document a line")
    group.add_argument("--no-color", action="store_true", default=quiet, help="no colours")
    return options


def add_verb(
    subparsers: Subparsers, name: str, verb: Verb, summary: str, examples: str
) -> argparse.ArgumentParser:
    """Declare a verb with its help and examples; the caller adds its own arguments."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        name,
        help=summary,
        description=f"{summary}.",
        epilog="examples:\n" + "\n".join(f"  {line}" for line in examples.strip().splitlines()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[common_options(top=False)],
    )
    parser.set_defaults(verb=verb)
    return parser
