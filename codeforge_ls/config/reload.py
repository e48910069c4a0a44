"""Hot reload: a bad configuration keeps the one in force, fields that cannot change while open are listed."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from codeforge_ls.config.layers import ConfigProblem, Layer, Severity, editor_layer
from codeforge_ls.config.load import LoadedSettings, Sources, changed_fields
from codeforge_ls.config.place import config_files
from codeforge_ls.config.settings import FIELDS, Mark, Settings
from codeforge_ls.config.trust import restrict_editor
from codeforge_ls.config.trusted_file import FileTrust, trust_file, write_trust
from codeforge_ls.model.base import Frozen, JsonObject
from codeforge_ls.model.errors import Conflict, Unavailable


class ReloadOutcome(Frozen):
    """What a reload did. ``restart_needed`` are immutable fields that differ: they keep their old value."""

    applied: bool
    changed: tuple[str, ...] = ()
    restart_needed: tuple[str, ...] = ()
    problems: tuple[ConfigProblem, ...] = ()


@dataclass(frozen=True)
class EditorOptions:
    """What one editor wants, for as long as its session is attached."""

    session: str
    layer: Layer

    @classmethod
    def of(cls, session: str, options: JsonObject) -> EditorOptions:
        """Check the options as they came. Never raises for what is in them."""
        return cls(session, editor_layer(options))


class ConfigStore:
    """The settings in force for one workspace and how to load them again.

    ``reload`` is for SIGHUP and changes of ``watched_files``; it reads files and may run in a thread.
    ``take_options`` and ``drop_options`` read nothing. Readers take ``current`` each time they need a value.
    """

    def __init__(
        self,
        root: Path,
        *,
        overrides: Mapping[str, str] | None = None,
        config_path: Path | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._root, self._config_path, self._overrides = root, config_path, overrides
        self._environ = dict(os.environ if environ is None else environ)
        self._lock = threading.Lock()
        self._latest = self._sound = self._read()  # what the last attempt read, and what is in force
        self._editors: dict[str, Layer] = {}  # in the order in which they came
        self._refused: dict[str, Layer] = {}
        self._notes: tuple[ConfigProblem, ...] = ()
        self._loaded = self._sound.merge()

    @property
    def current(self) -> Settings:
        """The settings in force; frozen, replaced as a whole by a reload."""
        return self._loaded.settings

    @property
    def loaded(self) -> LoadedSettings:
        """The settings in force with their sources, and the problems of just those."""
        return self._loaded

    @property
    def problems(self) -> tuple[ConfigProblem, ...]:
        """What is wrong now: with what the latest attempt read, in force or not, and with every editor's options."""
        with self._lock:
            own = [self._own_problems(session) for session in {**self._editors, **self._refused}]
            return (*self._shared_problems(), *(problem for found in own for problem in found))

    def problems_for(self, session: str) -> tuple[ConfigProblem, ...]:
        """What the person at this editor can do something about: all but what other editors sent."""
        with self._lock:
            return (*self._shared_problems(), *self._own_problems(session))

    @property
    def watched_files(self) -> tuple[Path, ...]:
        """The files whose change should lead to a reload; they need not exist."""
        files = config_files(self._root, self._config_path, self._environ)
        return (*files, trust_file(self._root, self._environ))

    @property
    def file_trust(self) -> FileTrust:
        """The workspace's file as it was read last, and whether a person trusts it."""
        return self._latest.file_trust

    def trust(self, sha256: str | None) -> None:
        """Trust the workspace's file with that hash, or no version of it; ``reload`` puts it in force.

        For a person's order only. Raises ``Conflict`` when the file is another one by now, ``Unavailable`` when the
        record cannot be written. Blocking.
        """
        if sha256 is not None and sha256 != (now := self._read().workspace.sha256):
            raise Conflict(
                "The file is not the one that was looked at; nothing is trusted.",
                hint="Look at it again with `codeforge trust`.",
                data={"sha256": now},
            )
        try:
            write_trust(self._root, sha256, self._environ)
        except OSError as error:
            raise Unavailable(f"The trust cannot be written down: {error.strerror or error}.") from error

    def reload(self) -> ReloadOutcome:
        """Reads the files again. With an error anywhere what is in force stays, whole, and the problems are told."""
        latest = self._read()
        with self._lock:
            self._latest = latest
            if not latest.is_sound:
                return ReloadOutcome(applied=False, problems=self._shared_problems())
            self._sound = latest
            return self._apply()

    def take_options(self, options: EditorOptions) -> ReloadOutcome:
        """An editor's options are in force until ``drop_options``; where editors differ, the one that came last
        wins. With an error among them the options that this editor sent before stay."""
        session, layer = options.session, options.layer
        with self._lock:
            if not layer.is_sound:
                self._refused[session] = layer
                return ReloadOutcome(applied=False, problems=tuple(layer.problems))
            self._refused.pop(session, None)
            self._editors[session] = layer
            return self._apply(session)

    def drop_options(self, session: str) -> None:
        """An editor has left, and its options with it."""
        with self._lock:
            self._refused.pop(session, None)
            if self._editors.pop(session, None) is not None:
                self._apply()

    def _apply(self, session: str = "") -> ReloadOutcome:
        fresh = self._sound.merge(self._editors.values())
        changed = tuple(changed_fields(self.current, fresh.settings))
        immutable = tuple(path for path in changed if FIELDS[path].has(Mark.IMMUTABLE))
        self._notes = tuple(_note(path, fresh) for path in immutable)
        if immutable:
            fresh = _keep(immutable, self._loaded, fresh)
        self._loaded = fresh
        return ReloadOutcome(
            applied=True,
            changed=tuple(path for path in changed if path not in immutable),
            restart_needed=immutable,
            problems=(*self._shared_problems(), *self._own_problems(session)),
        )

    def _shared_problems(self) -> tuple[ConfigProblem, ...]:
        notes = self._notes if self._latest is self._sound else ()  # else they are about an older file
        return (*self._latest.merge().problems, *notes)

    def _own_problems(self, session: str) -> tuple[ConfigProblem, ...]:
        if refused := self._refused.get(session):
            return tuple(refused.problems)
        layer = self._editors.get(session)
        return tuple(restrict_editor(layer, self._sound.trusted_profile).problems) if layer else ()

    def _read(self) -> Sources:
        return Sources.read(
            self._root, overrides=self._overrides, config_path=self._config_path, environ=self._environ
        )


def immutable_fields() -> tuple[str, ...]:
    """The fields that only a restart changes."""
    return tuple(path for path, field in FIELDS.items() if field.has(Mark.IMMUTABLE))


def _note(path: str, new: LoadedSettings) -> ConfigProblem:
    file, _, line = new.sources[path].rpartition(":")
    return ConfigProblem(
        file=file if line.isdecimal() else new.sources[path],
        line=int(line) if line.isdecimal() else 0,
        field=path,
        message="takes effect after `codeforge daemon restart`",
        severity=Severity.WARNING,
    )


def _keep(paths: tuple[str, ...], old: LoadedSettings, new: LoadedSettings) -> LoadedSettings:
    values, before = new.settings.model_dump(), old.settings.model_dump()
    for path in paths:
        section, name = FIELDS[path].section, FIELDS[path].name
        values[section][name] = before[section][name]
    sources = new.sources | {path: old.sources[path] for path in paths}
    return new.model_copy(update={"settings": Settings.model_validate(values), "sources": sources})
