"""One source of settings as it was written: its values with their places, and what is wrong with them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from codeforge_ls.config.settings import ENV_PREFIX, FIELDS, section_models
from codeforge_ls.config.yaml_file import YamlError, read_bytes, read_sections
from codeforge_ls.model.base import Frozen, JsonObject, JsonValue

EDITOR = "editor options"
ENVIRONMENT = "environment"
COMMAND_LINE = "--set"

ENV_ALIASES = {"CODEFORGE_POLICY_DIR": "policy.directory"}
MAX_PROBLEMS = 50  # of one file: whoever wrote more than that is told enough
NOT_SETTINGS = ("CODEFORGE_TOOL", "CODEFORGE_HTTP_TOKEN", "CODEFORGE_STATE_", "CODEFORGE_DEV_")


class Severity(StrEnum):
    """An error is a value that could not be used; a warning one that was left out on purpose."""

    ERROR = "error"
    WARNING = "warning"


class ConfigProblem(Frozen):
    """What is wrong with the configuration and where. ``line`` counts from 1, 0 where there are no lines."""

    file: str
    line: int = 0
    field: str = ""
    message: str
    severity: Severity = Severity.ERROR

    @property
    def text(self) -> str:
        """One line for people: ``file:line: field: message``."""
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.field}: {self.message}" if self.field else f"{place}: {self.message}"


class Value(NamedTuple):
    """A value, the line it stands on (0: none) and where that is, for people."""

    value: JsonValue
    line: int
    place: str


@dataclass
class Layer:
    """The values of one source by field path, as they were written; ``sha256`` of a file's bytes, else empty."""

    file: str
    sha256: str = ""
    values: dict[str, Value] = field(default_factory=dict)
    problems: list[ConfigProblem] = field(default_factory=list)

    @property
    def is_sound(self) -> bool:
        """Whether no value had to be thrown away."""
        return not any(problem.severity is Severity.ERROR for problem in self.problems)

    def copy(self) -> Layer:
        """A layer that can be cut down without this one losing anything."""
        return replace(self, values=dict(self.values), problems=list(self.problems))

    def complain(
        self, message: str, *, path: str = "", line: int = 0, severity: Severity = Severity.ERROR
    ) -> None:
        """Note a problem; beyond the first fifty they are left out."""
        if len(self.problems) < MAX_PROBLEMS:
            place = _printable(self.file)
            self.problems.append(
                ConfigProblem(file=place, line=line, field=path, message=message, severity=severity)
            )

    def complain_unknown(self, name: str, line: int = 0) -> None:
        """Note that there is no such setting, and which one may have been meant."""
        if len(self.problems) < MAX_PROBLEMS:
            self.complain(_unknown(name), path=_short(name), line=line)

    def put(self, path: str, value: JsonValue, line: int = 0, place: str = "") -> None:
        """Take a value of the field ``path``; null counts as not written."""
        if path not in FIELDS:
            self.complain_unknown(path, line)
        elif value is not None:
            file = _printable(self.file)
            self.values[path] = Value(value, line, place or (f"{file}:{line}" if line else file))


def file_layer(path: Path, *, required: bool = False) -> Layer:
    """The values of a YAML file, which may be absent unless it is ``required``."""
    layer = Layer(str(path))
    try:
        if (data := read_bytes(path)) is None:
            if required:
                layer.complain("there is no such file")
            return layer
        layer.sha256 = hashlib.sha256(
            data
        ).hexdigest()  # of what is parsed, not of what lies there a moment later
        sections = read_sections(data)
    except YamlError as problem:
        layer.complain(problem.message, line=problem.line)
        return layer
    for name, (line, values) in sections.items():
        if name not in section_models():
            layer.complain_unknown(name, line)
        elif values is None:
            layer.complain("must be a mapping of settings", path=name, line=line)
        else:
            for key, item in values.items():
                layer.put(f"{name}.{key}", item.value, item.line)
    return _drop_invalid(layer)


def editor_layer(options: JsonObject | None) -> Layer:
    """The values that an editor sent, whatever it sent."""
    layer = Layer(EDITOR)
    if options is not None and not isinstance(options, dict):
        layer.complain("must be an object")
        return layer
    for name, values in (options or {}).items():
        if name not in section_models():
            layer.complain_unknown(name)
        elif isinstance(values, dict):
            for key, value in values.items():
                layer.put(f"{name}.{key}", value)
        elif values is not None:
            layer.complain("must be an object", path=name)
    return _drop_invalid(layer)


def env_layer(environ: Mapping[str, str]) -> Layer:
    """The values of environment variables."""
    layer = Layer(ENVIRONMENT)
    names = {setting.env: path for path, setting in FIELDS.items()}
    names |= {f"{ENV_PREFIX}{s.section}__{s.name}".upper(): path for path, s in FIELDS.items()}
    for variable in sorted(environ):
        if not variable.startswith(ENV_PREFIX) or variable.startswith(NOT_SETTINGS):
            continue
        path = names.get(variable) or ENV_ALIASES.get(variable)
        if path is None:
            layer.complain("is not the name of a setting", path=_short(variable), severity=Severity.WARNING)
        elif environ[variable] != "":  # an empty variable counts as not set
            layer.put(path, environ[variable], place=f"{ENVIRONMENT} {variable}")
    return _drop_invalid(layer)


def override_layer(overrides: Mapping[str, str] | None) -> Layer:
    """The values of ``--set``."""
    layer = Layer(COMMAND_LINE)
    for path, value in (overrides or {}).items():
        layer.put(path, value)
    return _drop_invalid(layer)


def _drop_invalid(layer: Layer) -> Layer:
    for section, model in section_models().items():
        values = {path: item for path, item in layer.values.items() if path.startswith(f"{section}.")}
        try:
            model.model_validate({path.partition(".")[2]: item.value for path, item in values.items()})
        except ValidationError as error:
            for detail in error.errors(include_url=False, include_input=False, include_context=False):
                path = f"{section}.{detail['loc'][0]}"
                if path in layer.values:
                    item = layer.values.pop(path)
                    name = item.place.partition(" ")[2] if layer.file == ENVIRONMENT else ""
                    message = f"{detail['msg']} ({name})" if name else detail["msg"]
                    layer.complain(message, path=path, line=item.line)
    return layer


def _unknown(path: str) -> str:
    import difflib

    near = difflib.get_close_matches(path[:80], [*FIELDS, *section_models()], n=1)
    return f"is not a setting; did you mean {near[0]}?" if near else "is not a setting"


def _printable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _short(name: str) -> str:
    text = _printable(name)
    return text if len(text) <= 80 else text[:77] + "..."
