"""A parser process: reads files, parses them, cuts them and counts words. It may hang or die; its owner expects that.

Both ways, a message is four bytes with its length and then that many bytes. A task is JSON:
``{"id", "path", "text"?, "parse"}``. Its answer is the id (eight bytes), then ``E`` and an ``Extract``, or ``R`` and
JSON of a ``Refusal``. The first message says that the process is ready. Answers come in the order of the tasks.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO

from codeforge_ls.child import die_with_parent, take_stdio
from codeforge_ls.index.chunks import cut_chunks
from codeforge_ls.index.extract import (
    Extract,
    pack_bags,
    pack_chunks,
    pack_imports,
    pack_places,
    pack_symbols,
)
from codeforge_ls.index.grammars import PLAIN, NoGrammar, content_version, grammar, language_of
from codeforge_ls.index.limits import Limits
from codeforge_ls.index.lines import Lines
from codeforge_ls.index.reading import LinkCheck, Refusal, Source, check_text, content_digest, read_source
from codeforge_ls.index.tags import Tags, read_tags

COMPRESSION = 1  # the fastest: texts are read far less often than written while a repository is indexed
COLLECT_AFTER = (
    500  # tasks between two collections: nothing here makes cycles, and the collector costs a tenth
)


def main() -> None:
    """Serve tasks until end of input. Arguments: the workspace root and the limits as JSON."""
    die_with_parent()
    root, limits = Path(sys.argv[1]), Limits.from_json(sys.argv[2])
    links = LinkCheck(root)
    wire_in, wire_out = take_stdio()
    gc.disable()
    with os.fdopen(wire_in, "rb") as tasks, os.fdopen(wire_out, "wb") as results:
        _send(results, b"ready")
        served = 0
        while length := tasks.read(4):
            task = json.loads(tasks.read(int.from_bytes(length, "little")))
            answer = _work(root, limits, links, task)
            kind, body = (
                (b"R", json.dumps(asdict(answer)).encode())
                if isinstance(answer, Refusal)
                else (b"E", answer.to_bytes())
            )
            _send(results, int(task["id"]).to_bytes(8, "little"), kind, body)
            served += 1
            if served % COLLECT_AFTER == 0:
                gc.collect()


def _send(results: BinaryIO, *parts: bytes) -> None:
    results.write(sum(map(len, parts)).to_bytes(4, "little"))
    results.writelines(parts)
    results.flush()


def _work(root: Path, limits: Limits, links: LinkCheck, task: dict[str, object]) -> Extract | Refusal:
    started = time.process_time()
    path, text = str(task["path"]), task.get("text")
    source = _given(text, limits) if isinstance(text, str) else read_source(root, path, limits, links)
    if isinstance(source, Refusal):
        return source
    language = language_of(path)
    missing, tags, lines = "", Tags(), Lines(source.data)
    if task["parse"] and language not in PLAIN:
        try:
            tags = read_tags(lines, language, grammar(language))
        except NoGrammar as reason:
            missing = str(reason)
    names, counts, places = pack_places(tags.uses)
    symbols = pack_symbols(one.row() for one in tags.definitions)
    tagged = time.process_time()
    chunks = cut_chunks(lines, tags.definitions)
    return Extract(
        digest=source.digest,
        language=language,
        version=content_version(language),
        mtime_ns=source.mtime_ns,
        size=source.size,
        lines=len(lines),
        missing=missing,
        symbol_count=len(tags.definitions),
        symbols=symbols,
        names=names,
        use_counts=counts,
        places=places,
        imports=pack_imports(tags.imports),
        chunk_count=len(chunks),
        chunks=pack_chunks(chunks),
        bags=pack_bags(chunks),
        text=zlib.compress(source.data, COMPRESSION),
        tag_seconds=tagged - started,
        word_seconds=time.process_time() - tagged,
    )


def _given(text: str, limits: Limits) -> Source | Refusal:
    """An unsaved buffer, as if it had been read from disk."""
    checked = check_text(text.encode("utf-8", "replace"), limits)
    return (
        checked if isinstance(checked, Refusal) else Source(checked, content_digest(checked), 0, len(checked))
    )


if __name__ == "__main__":
    main()
