"""Loading settings: six layers, each checked by itself, merged in order, every problem with its place."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from codeforge_ls.config.layers import (
    ConfigProblem,
    Layer,
    Severity,
    editor_layer,
    env_layer,
    file_layer,
    override_layer,
)
from codeforge_ls.config.place import config_files
from codeforge_ls.config.settings import FIELDS, Settings, section_models
from codeforge_ls.config.trust import restrict_editor, restrict_workspace, trusted_profile, withheld
from codeforge_ls.config.trusted_file import FileTrust, trusted_hash
from codeforge_ls.model.base import Frozen, JsonObject, JsonValue


class LoadedSettings(Frozen):
    """The settings in force, what was wrong, and where each value came from (field path -> place).

    ``trusted_profile`` is ``policy.default`` as the person's own file, the environment and ``--set`` give it:
    what neither a repository nor an editor that is attached just now has a say in. Empty: none of them sets it."""

    settings: Settings
    problems: tuple[ConfigProblem, ...] = ()
    sources: dict[str, str]
    trusted_profile: str = ""

    @property
    def is_sound(self) -> bool:
        """Whether no value had to be thrown away."""
        return not any(problem.severity is Severity.ERROR for problem in self.problems)


@dataclass(frozen=True)
class Sources:
    """The layers that do not depend on who is attached, as they were read."""

    user: Layer
    workspace: Layer
    environment: Layer
    overrides: Layer
    trusted_hash: str = ""

    @classmethod
    def read(
        cls,
        root: Path,
        *,
        overrides: Mapping[str, str] | None = None,
        config_path: Path | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> Sources:
        """Read the files and the environment. Never raises for what is in them."""
        environment = os.environ if environ is None else environ
        user, workspace = config_files(root, config_path, environment)
        return cls(
            user=file_layer(user, required=config_path is not None),
            workspace=file_layer(workspace),
            environment=env_layer(environment),
            overrides=override_layer(overrides),
            trusted_hash=trusted_hash(root, environment),
        )

    @property
    def file_trust(self) -> FileTrust:
        """Whether a person trusts the workspace's file as it was read, and what counts only then."""
        layer = self.workspace
        return FileTrust(
            file=layer.file,
            sha256=layer.sha256,
            trusted=bool(layer.sha256) and layer.sha256 == self.trusted_hash,
            withheld=withheld(layer),
        )

    @property
    def is_sound(self) -> bool:
        """Whether no value had to be thrown away."""
        return all(layer.is_sound for layer in (self.user, self.workspace, self.environment, self.overrides))

    @property
    def trusted_profile(self) -> str:
        """``policy.default`` as the layers that may decide everything give it."""
        return trusted_profile((self.user, self.environment, self.overrides))

    def merge(self, editors: Iterable[Layer] = ()) -> LoadedSettings:
        """The settings with the options of these editors, of which a later one wins."""
        trusted = self.trusted_profile
        layers = (
            self.user,
            restrict_workspace(self.workspace, trusted, file_is_trusted=self.file_trust.trusted),
            *(restrict_editor(layer, trusted) for layer in editors),
            self.environment,
            self.overrides,
        )
        return _merge(layers, trusted)


def load_settings(
    root: Path,
    *,
    editors: Sequence[JsonObject] = (),
    overrides: Mapping[str, str] | None = None,
    config_path: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> LoadedSettings:
    """The settings of the workspace at ``root``. Never raises for a bad configuration: a value that cannot be
    used is reported and the next lower layer's stands.

    Lowest to highest: defaults, the user's file (or ``config_path``), the workspace's file, the options of the
    attached ``editors``, the environment, ``overrides`` (``--set a.b=c``).
    """
    sources = Sources.read(root, overrides=overrides, config_path=config_path, environ=environ)
    return sources.merge(editor_layer(options) for options in editors)


def _merge(layers: Iterable[Layer], trusted: str) -> LoadedSettings:
    values: dict[str, dict[str, JsonValue]] = {name: {} for name in section_models()}
    sources = dict.fromkeys(FIELDS, "default")
    problems: list[ConfigProblem] = []
    for layer in layers:
        problems += layer.problems
        for path, item in layer.values.items():
            section, _, name = path.partition(".")
            values[section][name] = item.value
            sources[path] = item.place
    return LoadedSettings(
        settings=Settings.model_validate(values),
        problems=tuple(problems),
        sources=sources,
        trusted_profile=trusted,
    )


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
