"""Loading settings: six layers, each checked by itself, merged in order, every problem with its place."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from codeforge_ls.config.place import config_files
from codeforge_ls.config.settings import ENV_PREFIX, FIELDS, Mark, Settings, section_models
from codeforge_ls.config.yaml_file import YamlError, read_sections
from codeforge_ls.model.base import Frozen, JsonObject, JsonValue

EDITOR = "editor options"
ENVIRONMENT = "environment"
COMMAND_LINE = "--set"

ENV_ALIASES = {"CODEFORGE_POLICY_DIR": "policy.directory"}
MAX_PROBLEMS = 50  # of one file: whoever wrote more than that is told enough
NOT_SETTINGS = ("CODEFORGE_TOOL", "CODEFORGE_STATE_", "CODEFORGE_DEV_")

# From strict to loose. A workspace file may not choose a looser profile than the person did; "" (chosen by
# circumstances) ranks like editor-interactive, the strictest of what it can become.
LOOSENESS = (
    "plan-readonly",
    "editor-interactive",
    "headless-safe-sandbox",
    "headless-permissive-sandbox",
    "trusted-mount-autonomous",
)


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


class LoadedSettings(Frozen):
    """The settings in force, what was wrong, and where each value came from (field path -> place)."""

    settings: Settings
    problems: tuple[ConfigProblem, ...] = ()
    sources: dict[str, str]

    @property
    def is_sound(self) -> bool:
        """Whether no value had to be thrown away."""
        return not any(problem.severity is Severity.ERROR for problem in self.problems)


class _Value(NamedTuple):
    value: JsonValue
    line: int
    place: str


@dataclass
class _Layer:
    """The values of one source by field path, as they were written."""

    file: str
    values: dict[str, _Value] = field(default_factory=dict)
    problems: list[ConfigProblem] = field(default_factory=list)

    def complain(
        self, message: str, *, path: str = "", line: int = 0, severity: Severity = Severity.ERROR
    ) -> None:
        if len(self.problems) < MAX_PROBLEMS:
            place = _printable(self.file)
            self.problems.append(
                ConfigProblem(file=place, line=line, field=path, message=message, severity=severity)
            )

    def complain_unknown(self, name: str, line: int = 0) -> None:
        if len(self.problems) < MAX_PROBLEMS:
            self.complain(_unknown(name), path=_short(name), line=line)

    def put(self, path: str, value: JsonValue, line: int = 0, place: str = "") -> None:
        if path not in FIELDS:
            self.complain_unknown(path, line)
        elif value is not None:
            file = _printable(self.file)
            self.values[path] = _Value(value, line, place or (f"{file}:{line}" if line else file))


def load_settings(
    root: Path,
    *,
    initialization_options: JsonObject | None = None,
    overrides: Mapping[str, str] | None = None,
    config_path: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> LoadedSettings:
    """The settings of the workspace at ``root``. Never raises for a bad configuration: a value that cannot be
    used is reported and the next lower layer's stands.

    Lowest to highest: defaults, the user's file (or ``config_path``), the workspace's file, the editor's
    ``initialization_options``, the environment, ``overrides`` (``--set a.b=c``).
    """
    environment = os.environ if environ is None else environ
    user_file, workspace_file = config_files(root, config_path, environment)
    user = _file_layer(user_file, required=config_path is not None)
    workspace = _file_layer(workspace_file)
    above = [_editor_layer(initialization_options), _env_layer(environment), _override_layer(overrides)]
    for layer in (user, workspace, *above):
        _drop_invalid(layer)
    _drop_untrusted(workspace, user, above)
    return _merge((user, workspace, *above))


def _file_layer(path: Path, *, required: bool = False) -> _Layer:
    layer = _Layer(str(path))
    try:
        sections = read_sections(path)
    except YamlError as problem:
        layer.complain(problem.message, line=problem.line)
        return layer
    if sections is None:
        if required:
            layer.complain("there is no such file")
        return layer
    for name, (line, values) in sections.items():
        if name not in section_models():
            layer.complain_unknown(name, line)
        elif values is None:
            layer.complain("must be a mapping of settings", path=name, line=line)
        else:
            for key, item in values.items():
                layer.put(f"{name}.{key}", item.value, item.line)
    return layer


def _editor_layer(options: JsonObject | None) -> _Layer:
    layer = _Layer(EDITOR)
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
    return layer


def _env_layer(environ: Mapping[str, str]) -> _Layer:
    layer = _Layer(ENVIRONMENT)
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
    return layer


def _override_layer(overrides: Mapping[str, str] | None) -> _Layer:
    layer = _Layer(COMMAND_LINE)
    for path, value in (overrides or {}).items():
        layer.put(path, value)
    return layer


def _drop_invalid(layer: _Layer) -> None:
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


def _drop_untrusted(workspace: _Layer, user: _Layer, above: Iterable[_Layer]) -> None:
    """A repository somebody else wrote must not choose model, address or isolation, nor loosen the policy."""
    for path, item in list(workspace.values.items()):
        reason = ""
        if FIELDS[path].has(Mark.TRUSTED):
            reason = "ignored: only your own file, the editor, the environment or --set may set this"
        elif path == "policy.default":
            chosen = [layer.values[path].value for layer in (user, *above) if path in layer.values]
            if _is_looser(str(item.value), str(chosen[-1]) if chosen else ""):
                reason = "ignored: a workspace may not choose a looser policy profile than you did"
        if reason:
            del workspace.values[path]
            workspace.complain(reason, path=path, line=item.line, severity=Severity.WARNING)


def _is_looser(wanted: str, trusted: str) -> bool:
    trusted = trusted or "editor-interactive"
    if wanted in ("", trusted):
        return wanted == ""
    limit = LOOSENESS.index(trusted) if trusted in LOOSENESS else 0
    return wanted not in LOOSENESS[: limit + 1]


def _merge(layers: Iterable[_Layer]) -> LoadedSettings:
    values: dict[str, dict[str, JsonValue]] = {name: {} for name in section_models()}
    sources = dict.fromkeys(FIELDS, "default")
    problems: list[ConfigProblem] = []
    for layer in layers:
        problems += layer.problems
        for path, item in layer.values.items():
            section, _, name = path.partition(".")
            values[section][name] = item.value
            sources[path] = item.place
    settings = Settings.model_validate(values)
    return LoadedSettings(settings=settings, problems=tuple(problems), sources=sources)


def _unknown(path: str) -> str:
    import difflib

    near = difflib.get_close_matches(path[:80], [*FIELDS, *section_models()], n=1)
    return f"is not a setting; did you mean {near[0]}?" if near else "is not a setting"


def _printable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _short(name: str) -> str:
    text = _printable(name)
    return text if len(text) <= 80 else text[:77] + "..."


def parse_overrides(pairs: Iterable[str]) -> dict[str, str]:
    """``--set a.b=c`` arguments as a mapping; a pair without ``=`` has an empty value."""
    return dict(_split(pair) for pair in pairs)


def _split(pair: str) -> tuple[str, str]:
    path, _, value = pair.partition("=")
    return path.strip(), value


def changed_fields(old: Settings, new: Settings) -> Iterator[str]:
    """The paths of the fields that differ."""
    for path, setting in FIELDS.items():
        if getattr(getattr(old, setting.section), setting.name) != getattr(
            getattr(new, setting.section), setting.name
        ):
            yield path
