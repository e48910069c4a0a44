"""What others need for the same files: a plain parse, universal-ctags, and aider's repo map where it is installed.

``CODEFORGE_BENCH_AIDER`` names the Python of an environment that has ``aider-chat``; it is never one of ours, for
its pins and ours exclude each other.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

PARSE = """
import sys
from codeforge_ls.index.grammars import PLAIN, NoGrammar, grammar, language_of
from tree_sitter import Parser
parsers = {}
for path in sys.stdin.read().splitlines():
    language = language_of(path)
    if language in PLAIN:
        continue
    if language not in parsers:
        try:
            parsers[language] = Parser(grammar(language).language)
        except NoGrammar:
            parsers[language] = None
    if parsers[language] is not None:
        with open(path, "rb") as file:
            parsers[language].parse(file.read())
"""
AIDER = """
import sys
from aider.io import InputOutput
from aider.models import Model
from aider.repomap import RepoMap
files = sys.stdin.read().splitlines()
io = InputOutput(pretty=False, yes=True)
repo_map = RepoMap(map_tokens=1024, root=sys.argv[1], main_model=Model("gpt-4o"), io=io)
print(len(repo_map.get_repo_map([], files) or ""))
"""


def anchors(root: Path, files: list[str]) -> Iterator[tuple[str, float]]:
    """Name and CPU seconds of each anchor that can be had here, over absolute paths of source files."""
    yield "tree-sitter parse alone", _cpu([sys.executable, "-c", PARSE], files, root)
    if ctags := shutil.which("ctags"):
        command = [ctags, "-f", "-", "-L", "-"]
        yield "universal-ctags, definitions only", _cpu(command, files, root)
    if python := os.environ.get("CODEFORGE_BENCH_AIDER"):
        with tempfile.TemporaryDirectory(prefix="cf-aider-") as copy:
            # A copy: aider writes its cache into the repository.
            shutil.copytree(root, copy, dirs_exist_ok=True, symlinks=True)
            there = [str(Path(copy) / Path(file).relative_to(root)) for file in files]
            yield "aider's first repo map", _cpu([python, "-c", AIDER, copy], there, Path(copy))


def _cpu(command: list[str], files: list[str], cwd: Path) -> float:
    before = os.times()
    subprocess.run(
        command, input="\n".join(files), text=True, cwd=cwd, check=True, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, env=os.environ | {"LITELLM_LOCAL_MODEL_COST_MAP": "true"},
    )  # fmt: skip
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system
