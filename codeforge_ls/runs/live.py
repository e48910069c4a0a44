"""Live text of an event that is still open, on its way to whoever watches: without secrets, with offsets."""

from __future__ import annotations

from codeforge_ls.model.events import Delta
from codeforge_ls.redaction import Stream
from codeforge_ls.store import Store


class LiveText:
    """One channel of one open event. ``end`` shows what was held back as the possible beginning of a secret."""

    def __init__(self, store: Store, stream: str, event_id: str, channel: str) -> None:
        self._store, self._stream, self._event_id, self._channel = store, stream, event_id, channel
        self._filter = Stream()
        self._offset = 0

    def add(self, text: str) -> None:
        """The next piece."""
        self._show(self._filter.feed(text))

    def end(self) -> None:
        """Nothing more comes."""
        self._show(self._filter.end())

    def _show(self, text: str) -> None:
        if not text:
            return
        delta = Delta(
            stream=self._stream,
            event_id=self._event_id,
            channel=self._channel,
            offset=self._offset,
            text=text,
        )
        self._store.publish_delta(delta)
        self._offset += len(text)
