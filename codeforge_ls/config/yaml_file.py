"""Reading one YAML file that may be hostile: bounded, no tags, no aliases, with the line of every value."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from codeforge_ls.model.base import JsonValue

if TYPE_CHECKING:
    from ruamel.yaml.nodes import MappingNode, Node

MAX_BYTES = 64 << 10  # the parser needs about a second for it; a configuration is never that long
MAX_DEPTH = 16


@dataclass(frozen=True)
class YamlValue:
    """A value and the line (from 1) it stands on."""

    value: JsonValue
    line: int


class YamlError(Exception):
    """The file cannot be used. ``line`` counts from 1; 0 where no line is to blame."""

    def __init__(self, message: str, line: int = 0) -> None:
        super().__init__(message)
        self.message, self.line = message, line


YamlSections = dict[str, tuple[int, "dict[str, YamlValue] | None"]]


def read_sections(data: bytes) -> YamlSections:
    """The content as ``{section: (line, {field: value})}``; YamlError if bad.

    A section that is null counts as empty, one that is no mapping has None in place of its fields.
    """
    root = _compose(_decoded(data))
    if root is None:
        return {}
    sections: YamlSections = {}
    for name, node in _pairs(root, "the file"):
        value = _construct(node)
        if isinstance(value, dict):
            fields = {key: YamlValue(value[key], _line(child)) for key, child in _pairs(node, name)}
            sections[name] = (_line(node), fields)
        else:
            sections[name] = (_line(node), {} if value is None else None)
    return sections


def read_bytes(path: Path) -> bytes | None:
    """The content of a regular file of at most 64 KiB; None where there is none; YamlError for anything else."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise YamlError("is not a regular file")
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise YamlError(f"cannot be read: {error.strerror or error}") from error
    if len(data) > MAX_BYTES:
        raise YamlError(f"is larger than {MAX_BYTES} bytes")
    return data


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise YamlError("is not UTF-8 text", data.count(b"\n", 0, error.start) + 1) from error


def _compose(text: str) -> Node | None:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError
    from ruamel.yaml.error import YAMLError as ParserError

    try:
        _refuse_tricks(text)
        node: Node | None = YAML(typ="safe", pure=True).compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise YamlError(f"is not valid YAML: {error.problem}", mark.line + 1 if mark else 0) from error
    except (ParserError, ValueError) as error:
        raise YamlError(f"is not valid YAML: {str(error).splitlines()[0][:200]}") from error
    return node


def _refuse_tricks(text: str) -> None:
    """Aliases multiply, tags construct, depth recurses: a configuration needs none of them."""
    from ruamel.yaml import YAML, events

    depth = 0
    for event in YAML(typ="safe", pure=True).parse(text):
        line = event.start_mark.line + 1
        if isinstance(event, events.AliasEvent) or getattr(event, "anchor", None):
            raise YamlError("anchors and aliases are not supported", line)
        if isinstance(event, events.NodeEvent) and getattr(event, "tag", None):
            raise YamlError("tags are not supported", line)
        if isinstance(event, events.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise YamlError("is nested too deeply", line)
        elif isinstance(event, events.CollectionEndEvent):
            depth -= 1


def _pairs(node: Node, what: str) -> list[tuple[str, Node]]:
    from ruamel.yaml.nodes import MappingNode, ScalarNode

    if not isinstance(node, MappingNode):
        raise YamlError(f"{what} must be a mapping of settings", _line(node))
    pairs: list[tuple[str, Node]] = []
    seen: set[str] = set()
    for key, value in node.value:
        if not isinstance(key, ScalarNode):
            raise YamlError("a name must be plain text", _line(key))
        if key.value in seen:
            raise YamlError(f"{key.value[:80]!r} stands there twice", _line(key))
        seen.add(key.value)
        pairs.append((key.value, value))
    return pairs


def _construct(node: Node) -> JsonValue:
    from ruamel.yaml.nodes import MappingNode, SequenceNode

    if isinstance(node, MappingNode):
        return {name: _construct(child) for name, child in _pairs(node, "the value")}
    if isinstance(node, SequenceNode):
        return [_construct(child) for child in node.value]
    # Everything but null stays text: pydantic makes of it what the field wants, as with the environment.
    return None if str(node.ctag).endswith(":null") else str(node.value)


def _line(node: Node | MappingNode) -> int:
    return int(node.start_mark.line) + 1
