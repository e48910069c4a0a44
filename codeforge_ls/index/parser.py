"""A parser process: reads files, parses them, cuts and tokenises them. It may hang or die; its owner expects that.

One JSON line a task on standard input, in order: ``{"id", "path", "text"?, "parse"}``. For each, one JSON line on
standard output, followed by as many raw bytes as its ``text_bytes`` and ``token_bytes`` say.
"""

from __future__ import annotations

import json
import os
import sys
import zlib
from pathlib import Path
from typing import BinaryIO

from codeforge_ls.index.chunks import cut_chunks
from codeforge_ls.index.grammars import PLAIN, NoGrammar, content_version, grammar, language_of
from codeforge_ls.index.limits import Limits
from codeforge_ls.index.reading import Refusal, Source, check_text, content_digest, read_source
from codeforge_ls.index.tags import Tags, read_tags
from codeforge_ls.index.tokens import tokens
from codeforge_ls.workers import die_with_parent, take_stdio

COMPRESSION = 1  # the fastest: texts are read far less often than written while a repository is indexed


def main() -> None:
    """Serve tasks until end of input. Arguments: the workspace root and the limits as JSON."""
    die_with_parent()
    root, limits = Path(sys.argv[1]), Limits.from_json(sys.argv[2])
    wire_in, wire_out = take_stdio()
    with os.fdopen(wire_in, "rb") as tasks, os.fdopen(wire_out, "wb") as results:
        _send(results, {"ready": True})
        for line in tasks:
            task = json.loads(line)
            answer, blobs = _work(root, limits, task)
            _send(results, {"id": task["id"], **answer}, *blobs)


def _send(results: BinaryIO, answer: dict[str, object], *blobs: bytes) -> None:
    results.write(json.dumps(answer, separators=(",", ":")).encode() + b"\n")
    results.writelines(blobs)
    results.flush()


def _work(root: Path, limits: Limits, task: dict[str, object]) -> tuple[dict[str, object], tuple[bytes, ...]]:
    path, text = str(task["path"]), task.get("text")
    source = _given(text, limits) if isinstance(text, str) else read_source(root, path, limits)
    if isinstance(source, Refusal):
        return {
            "refused": source.reason,
            "size": source.size,
            "mtime_ns": source.mtime_ns,
            "gone": source.gone,
        }, ()
    language = language_of(path)
    missing, tags = "", Tags()
    if task["parse"] and language not in PLAIN:
        try:
            tags = read_tags(source.data, language, grammar(language))
        except NoGrammar as reason:
            missing = str(reason)
    lines = source.data.decode().split("\n")
    chunks = cut_chunks(lines, tags.definitions)
    words = "\n".join(" ".join(tokens("\n".join(lines[one.start_line - 1 : one.end_line]))) for one in chunks)
    blobs = zlib.compress(source.data, COMPRESSION), zlib.compress(words.encode(), COMPRESSION)
    return {
        "digest": source.digest,
        "mtime_ns": source.mtime_ns,
        "size": source.size,
        "language": language,
        "version": content_version(language),
        "lines": len(lines),
        "missing": missing,
        "symbols": [one.row() for one in tags.definitions],
        "references": [[name, places] for name, places in tags.references.items()],
        "imports": tags.imports,
        "chunks": [[one.start_line, one.end_line, one.symbol, one.kind] for one in chunks],
        "text_bytes": len(blobs[0]),
        "token_bytes": len(blobs[1]),
    }, blobs


def _given(text: str, limits: Limits) -> Source | Refusal:
    """An unsaved buffer, as if it had been read from disk."""
    checked = check_text(text.encode("utf-8", "replace"), limits)
    return (
        checked if isinstance(checked, Refusal) else Source(checked, content_digest(checked), 0, len(checked))
    )


if __name__ == "__main__":
    main()
