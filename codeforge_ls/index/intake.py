"""Takes files and unsaved texts into index.db: by stat, then by hash, and only then by a parser."""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left
from collections.abc import Iterable
from itertools import count
from pathlib import Path

from codeforge_ls.index.database import IndexDatabase
from codeforge_ls.index.extract import Extract
from codeforge_ls.index.files import Listing
from codeforge_ls.index.grammars import PLAIN, content_version, language_of
from codeforge_ls.index.limits import Limits
from codeforge_ls.index.parser_pool import ParseHung, ParserPool
from codeforge_ls.index.reading import Refusal, Source, check_text, content_digest, read_source

BATCH_FILES, BATCH_SECONDS = 400, 1.0  # a transaction while building holds at most so much
HUNG = "quarantined"


class Intake:
    """What is on record, and the way in. Nothing is visible to readers before ``commit`` or a full batch."""

    def __init__(self, root: Path, limits: Limits, db: IndexDatabase, pool: ParserPool) -> None:
        self._root, self._limits, self._db, self._pool = root, limits, db, pool
        self._numbers = count()
        self._latest: dict[str, int] = {}
        self._changed: set[str] = set()
        self._refused_texts: set[str] = set()
        self._batch_start = time.monotonic()
        self.missing: set[str] = set()
        self.reload()

    def reload(self) -> None:
        """Read the record again."""
        self.files = self._db.files()
        self._overlays = set(self._db.overlays())
        self._bad = self._db.quarantined()
        self._has_contents = self._db.has_contents()
        self._sorted: list[str] | None = None

    def knows(self, path: str) -> bool:
        """Whether the path is on record, so that its ignore rules were looked at before."""
        return path in self.files or path in self._overlays

    def has_below(self, folder: str) -> bool:
        """Whether files on record lie below this folder."""
        if self._sorted is None:
            self._sorted = sorted(self.files)
        at = bisect_left(self._sorted, folder + "/")
        return at < len(self._sorted) and self._sorted[at].startswith(folder + "/")

    def quarantine_note(self) -> list[str]:
        """A sentence about quarantined contents, if there are any."""
        return [f"{len(self._bad)} file contents quarantined (see skipped files)"] if self._bad else []

    def compare(self, listing: Listing) -> list[str]:
        """Forget what is gone, note what is skipped, and return what must be looked at: source first, big first."""
        gone = [path for path in self.files if path not in listing.files]
        refused = {path: why for path, why in self._db.all_skips().items() if path in listing.files}
        self._db.begin()
        self._db.remove_files(gone)
        self._db.set_skips(refused | listing.skipped)
        for path in gone:
            del self.files[path]
        self._changed.update(gone)
        self.commit()
        self._has_contents = self._db.has_contents()
        todo = [
            path for path, stat in listing.files.items() if self.files.get(path, (None, 0, 0))[1:] != stat
        ]
        todo.sort(key=lambda path: (language_of(path) in PLAIN, -listing.files[path][1]))
        return todo

    async def take_file(self, path: str, *, urgent: bool) -> None:
        """Bring one path up to date with the disk. Costs a ``stat`` if nothing changed, a read if only the time did."""
        number = self._latest[path] = next(self._numbers)
        source: Source | Refusal | None = None
        if self._has_contents:
            source = await asyncio.to_thread(read_source, self._root, path, self._limits)
            if isinstance(source, Source) and self._known(path, source):
                return
        if not isinstance(source, Refusal):
            answer = await self._parse(path, None, urgent=urgent)
            if self._latest.get(path) != number:
                return  # a later look at the same path has overtaken this one
            if isinstance(answer, Extract):
                self._store(path, self._db_add(answer), answer.mtime_ns, answer.size)
                return
            source = answer
        if self._latest.get(path) == number:
            self._refuse(path, source)

    async def take_text(self, path: str, text: str) -> None:
        """Put the unsaved text of an open document over the file."""
        key = f"{path}\0overlay"
        number = self._latest[key] = next(self._numbers)
        answer = await self._parse(path, text, urgent=True)
        if self._latest.get(key) != number:
            return
        content = self._db_add(answer) if isinstance(answer, Extract) else None
        if isinstance(answer, Refusal):
            self._db.begin()
            self._db.set_skip(path, f"unsaved text: {answer.reason}", answer.size)
            self._refused_texts.add(path)
        self._set_overlay(path, content)

    def close_overlays(self, paths: Iterable[str]) -> None:
        """The documents are closed: the files on disk count again."""
        for path in paths:
            self._latest.pop(f"{path}\0overlay", None)
            if path in self._refused_texts:
                self._refused_texts.discard(path)
                self._db.begin()
                self._db.set_skip(path, None)
            if path in self._overlays:
                self._set_overlay(path, None)

    def commit(self) -> int:
        """Make everything so far visible; returns the generation."""
        self._db.commit(self._changed)
        self._changed.clear()
        self._batch_start = time.monotonic()
        return self._db.generation

    def end_build(self) -> None:
        """Commit what a build took in; from now on contents are looked up before they are parsed."""
        self.commit()
        self._has_contents = self._db.has_contents()

    # -- inside

    def _known(self, path: str, source: Source) -> bool:
        language = language_of(path)
        content = self._db.content(source.digest, language, content_version(language))
        if content is None:
            return False
        if self.files.get(path, (None,))[0] == content:
            self._db.begin()
            self._db.set_file(path, content, source.mtime_ns, source.size)
            self.files[path] = content, source.mtime_ns, source.size
        else:
            self._store(path, content, source.mtime_ns, source.size)
        return True

    async def _parse(self, path: str, text: str | None, *, urgent: bool) -> Extract | Refusal:
        """Parse; what hangs is quarantined by its hash and then only cut and tokenised."""
        digest = await asyncio.to_thread(self._digest, path, text) if self._bad else ""
        if digest not in self._bad:
            try:
                answer = await self._pool.parse(path, text=text, urgent=urgent)
            except ParseHung as why:
                await self._quarantine(path, text, str(why))
            else:
                if isinstance(answer, Extract) and answer.missing:
                    self.missing.add(answer.missing)
                return answer
        try:
            answer = await self._pool.parse(path, text=text, parse=False, urgent=urgent)
        except ParseHung as why:
            return Refusal(f"{HUNG}: {why}")
        self._db.begin()
        self._db.set_skip(path, f"{HUNG}: only searched as text")
        return answer

    async def _quarantine(self, path: str, text: str | None, why: str) -> None:
        digest = await asyncio.to_thread(self._digest, path, text)
        self._bad.add(digest)
        self._db.begin()
        self._db.quarantine(digest, path, why)

    def _digest(self, path: str, text: str | None) -> str:
        if text is not None:
            checked = check_text(text.encode("utf-8", "replace"), self._limits)
            return content_digest(checked) if isinstance(checked, bytes) else ""
        source = read_source(self._root, path, self._limits)
        return source.digest if isinstance(source, Source) else ""

    def _db_add(self, parsed: Extract) -> int:
        self._db.begin()
        return self._db.add_content(parsed)

    def _store(self, path: str, content: int, mtime_ns: int, size: int) -> None:
        self._db.begin()
        self._db.set_file(path, content, mtime_ns, size)
        if content is not None and self.files.get(path, (content,))[0] is None:
            self._db.set_skip(path, None)
        if path not in self.files:
            self._sorted = None
        self.files[path] = content, mtime_ns, size
        self._note(path)

    def _refuse(self, path: str, why: Refusal) -> None:
        self._db.begin()
        if why.gone:
            self._db.remove_files([path])
            self.files.pop(path, None)
            self._sorted = None
        else:
            self._db.set_file(path, None, why.mtime_ns, why.size)
            self._db.set_skip(path, why.reason, why.size)
            self.files[path] = None, why.mtime_ns, why.size
        self._note(path)

    def _set_overlay(self, path: str, content: int | None) -> None:
        self._db.begin()
        before = self._db.set_overlay(path, content)
        if before is not None and before != content:
            self._db.drop_content([before])
        if content is None:
            self._overlays.discard(path)
        else:
            self._overlays.add(path)
        self._note(path)

    def _note(self, path: str) -> None:
        self._changed.add(path)
        if len(self._changed) >= BATCH_FILES or time.monotonic() - self._batch_start > BATCH_SECONDS:
            self.commit()
