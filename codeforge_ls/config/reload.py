"""Hot reload: a bad configuration keeps the one in force, fields that cannot change while open are listed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from codeforge_ls.config.load import (
    ConfigProblem,
    LoadedSettings,
    Severity,
    changed_fields,
    load_settings,
)
from codeforge_ls.config.place import config_files
from codeforge_ls.config.settings import FIELDS, Mark, Settings
from codeforge_ls.model.base import Frozen, JsonObject


class ReloadOutcome(Frozen):
    """What a reload did. ``restart_needed`` are immutable fields that differ: they keep their old value."""

    applied: bool
    changed: tuple[str, ...] = ()
    restart_needed: tuple[str, ...] = ()
    problems: tuple[ConfigProblem, ...] = ()


class ConfigStore:
    """The settings in force for one workspace and how to load them again.

    ``reload`` is for SIGHUP, ``workspace/didChangeConfiguration`` and changes of ``watched_files``. One owner
    calls it, in a thread or not. Readers take ``current`` each time they need a value.
    """

    def __init__(
        self,
        root: Path,
        *,
        initialization_options: JsonObject | None = None,
        overrides: Mapping[str, str] | None = None,
        config_path: Path | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._root, self._config_path, self._overrides = root, config_path, overrides
        self._options = initialization_options
        self._environ = dict(os.environ if environ is None else environ)
        self._loaded = self._load(initialization_options)

    @property
    def current(self) -> Settings:
        """The settings in force; frozen, replaced as a whole by a reload."""
        return self._loaded.settings

    @property
    def loaded(self) -> LoadedSettings:
        """The settings in force with their problems and sources."""
        return self._loaded

    @property
    def watched_files(self) -> tuple[Path, ...]:
        """The files whose change should lead to a reload; they need not exist."""
        return config_files(self._root, self._config_path, self._environ)

    def reload(self, initialization_options: JsonObject | None = None) -> ReloadOutcome:
        """Reads everything again, with new editor options where they are given.

        With an error anywhere the settings in force stay, whole, and the problems are returned.
        """
        options = self._options if initialization_options is None else initialization_options
        fresh = self._load(options)
        if not fresh.is_sound:
            return ReloadOutcome(applied=False, problems=fresh.problems)
        changed = tuple(changed_fields(self.current, fresh.settings))
        immutable = tuple(path for path in changed if FIELDS[path].has(Mark.IMMUTABLE))
        if immutable:
            fresh = _keep(immutable, self._loaded, fresh)
        self._loaded, self._options = fresh, options
        return ReloadOutcome(
            applied=True,
            changed=tuple(path for path in changed if path not in immutable),
            restart_needed=immutable,
            problems=fresh.problems,
        )

    def _load(self, options: JsonObject | None) -> LoadedSettings:
        return load_settings(
            self._root,
            initialization_options=options,
            overrides=self._overrides,
            config_path=self._config_path,
            environ=self._environ,
        )


def immutable_fields() -> tuple[str, ...]:
    """The fields that only a restart changes."""
    return tuple(path for path, field in FIELDS.items() if field.has(Mark.IMMUTABLE))


def _keep(paths: tuple[str, ...], old: LoadedSettings, new: LoadedSettings) -> LoadedSettings:
    values, before = new.settings.model_dump(), old.settings.model_dump()
    notes: list[ConfigProblem] = []
    for path in paths:
        section, name = FIELDS[path].section, FIELDS[path].name
        values[section][name] = before[section][name]
        notes.append(
            ConfigProblem(
                file=new.sources[path],
                field=path,
                message="takes effect after `codeforge daemon restart`",
                severity=Severity.WARNING,
            )
        )
    sources = new.sources | {path: old.sources[path] for path in paths}
    return LoadedSettings(
        settings=Settings.model_validate(values), problems=(*new.problems, *notes), sources=sources
    )
