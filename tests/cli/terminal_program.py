"""A terminal window: types the command that it is told on standard input into an interactive bash, shows what comes."""

from __future__ import annotations

import json
import sys

from agent_program import terminal

if __name__ == "__main__":
    sys.stdout.write(terminal(json.load(sys.stdin))["out"])
