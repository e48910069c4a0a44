"""The command ``codeforge``: finds the verb, runs it, and turns errors into exit codes.

0 it worked, 1 it failed or was denied, 2 wrong usage or input, 3 no daemon or not available, 130 interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from codeforge_ls import __version__

if TYPE_CHECKING:
    from codeforge_ls.cli.connection import OperationFailed

DESCRIPTION = """Ask a repository, let an agent change it under a policy, and take it back.

The first verb starts the workspace's daemon; it stays for a while and serves editors, agents and terminals alike.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words == ["--version"]:  # before anything is imported: editors ask often
        print(f"codeforge {__version__}")
        return 0
    from codeforge_ls.cli.arguments import parse

    arguments, rest = parse(words)
    if arguments.verb_name == "demo":
        from codeforge_ls.cli.demo import main as demo

        code: int = demo(rest)
        return code
    return _run(arguments)


def _run(arguments: object) -> int:
    import argparse

    from codeforge_ls.cli.connection import OperationFailed
    from codeforge_ls.cli.output import Output
    from codeforge_ls.cli.verb import Context
    from codeforge_ls.rendezvous import Refused

    assert isinstance(arguments, argparse.Namespace)  # noqa: S101 - parse returns nothing else
    out = Output(as_json=arguments.json, color=not arguments.no_color)
    context = Context(arguments, out)
    try:
        return int(arguments.verb(context))
    except OperationFailed as failure:
        out.error(failure.error)
        return failure.exit_code
    except Refused as refused:
        code = {1: "denied", 2: "invalid_input"}.get(refused.exit_code, "unavailable")
        out.error({"code": code, "message": str(refused), "hint": "", "data": {}})
        return refused.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        _let_go_of_stdout()
        return 0
    except Exception as error:
        known = _known(error)
        if known is None:
            raise
        out.error(known.error)
        return known.exit_code
    finally:
        context.close()


def _known(error: Exception) -> OperationFailed | None:
    """An error of our own, from a verb that works without a daemon, in the form the daemon gives; None: a fault."""
    from codeforge_ls.cli.connection import OperationFailed
    from codeforge_ls.model.errors import CodeForgeError

    return OperationFailed(dict(error.as_json())) if isinstance(error, CodeForgeError) else None


def _let_go_of_stdout() -> None:
    """Whoever read us has closed the pipe (`| head`): the interpreter must not complain when it flushes."""
    import os

    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
