"""``python -m mcp_server`` starts nothing: the server lives in the daemon and is reached by ``codeforge-mcp``."""

from __future__ import annotations

import sys

HOW = """The MCP server of CodeForge runs in the daemon of a workspace. Agents start its pipe:

    codeforge-mcp [--root DIR]

For example:  claude mcp add codeforge -- codeforge-mcp --root /path/to/repository
"""


def main() -> int:
    """Say how to start it."""
    sys.stderr.write(HOW)
    return 2


if __name__ == "__main__":
    sys.exit(main())
