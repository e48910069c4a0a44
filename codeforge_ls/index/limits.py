"""The caps of the index, as the settings give them and as the workers get them on their command line."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Protocol

MAX_DEPTH = 64  # folders above a file
DATA_BYTES = 100 << 10  # JSON, CSV and the like: beyond this it is data, not something people wrote


class IndexSettings(Protocol):
    """What the index needs of the ``index`` section of the settings."""

    @property
    def max_file_bytes(self) -> int: ...
    @property
    def max_line(self) -> int: ...
    @property
    def max_files(self) -> int: ...
    @property
    def exclude(self) -> tuple[str, ...]: ...
    @property
    def parse_timeout_seconds(self) -> float: ...
    @property
    def parsers(self) -> int: ...


class SearchSettings(Protocol):
    """What a search needs of the ``search`` section of the settings."""

    @property
    def rrf_k(self) -> int: ...
    @property
    def vector_weight(self) -> float: ...
    @property
    def symbol_vector_weight(self) -> float: ...


@dataclass(frozen=True)
class Fusion:
    """How the legs are put together where no settings say it: see the ``search`` section of the settings."""

    rrf_k: int = 60
    vector_weight: float = 0.4
    symbol_vector_weight: float = 0.3


@dataclass(frozen=True)
class Limits:
    """Caps: bytes of a file, bytes of a line, files of a workspace; seconds for a parse; parser processes.

    ``exclude`` are patterns of paths that are left out.
    """

    max_file_bytes: int = 1 << 20
    max_line: int = 20_000
    max_files: int = 100_000
    parse_timeout_seconds: float = 2.0
    parsers: int = 2
    exclude: tuple[str, ...] = ()

    @classmethod
    def of(cls, settings: IndexSettings) -> Limits:
        """The same numbers, taken out of the settings."""
        return cls(
            settings.max_file_bytes,
            settings.max_line,
            settings.max_files,
            settings.parse_timeout_seconds,
            max(1, settings.parsers),
            tuple(settings.exclude),
        )

    def to_json(self) -> str:
        """For a worker's command line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Limits:
        """What ``to_json`` wrote."""
        values = json.loads(text)
        return cls(**(values | {"exclude": tuple(values["exclude"])}))
