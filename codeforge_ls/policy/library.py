"""The policies that can be named: presets, the user's own, the administrator's, and what tightens them.

- A file of the user replaces the preset of the same name, a managed one (``/etc/codeforge/policies``) replaces both.
- A managed profile of the name ``managed`` stands on top of every other.
- The user's file for this workspace (``workspaces/ID/policy.yaml`` beside the settings) holds what was allowed always.
- A file of the project (``.codeforge/policies``) never loosens: it is one more layer on top, and the strictest answer
  of all layers counts. Under a name of its own it stands on the ``base`` profile (``headless-safe-sandbox`` unless
  the default is another one).
- A broken file fails closed: the name it stands for denies everything and says why. It hides no other file.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from codeforge_ls.config import (
    PolicySettings,
    managed_policies_dir,
    policies_dir,
    workspace_config_dir,
)
from codeforge_ls.model.base import Frozen
from codeforge_ls.model.errors import NotFound
from codeforge_ls.model.policy import (
    ANY_TOOL,
    Decision,
    NetworkMode,
    PermissionRule,
    PolicyLayer,
    PolicyMode,
    PolicyProfile,
    PolicyScope,
    QualityGate,
    ResourceLimits,
    Termination,
    ToolSpecifier,
)
from codeforge_ls.policy.loader import Broken, load_file, load_layer

INTERACTIVE = "editor-interactive"
HEADLESS = "headless-safe-sandbox"
BASE = HEADLESS
MANAGED = "managed"
MAX_FILES = 200
PROJECT_FOLDER = Path(".codeforge") / "policies"
PRESETS_FOLDER = "policies"  # of a repository that keeps profiles for others, as ours does
ALWAYS_FILE = "policy.yaml"


class PolicyProblem(Frozen):
    """What is wrong with a policy file; ``line`` counts from 1, 0 where no line is to blame."""

    file: str
    line: int
    message: str


@dataclass
class _Loaded:
    presets: _Presets
    user: dict[str, PolicyLayer] = field(default_factory=dict)
    managed: dict[str, PolicyLayer] = field(default_factory=dict)
    always: PolicyLayer | None = None
    project: dict[str, PolicyLayer] = field(default_factory=dict)
    problems: list[PolicyProblem] = field(default_factory=list)

    def base(self, name: str) -> PolicyLayer | None:
        """Who defines a name: the administrator, else the user, else the preset."""
        return self.managed.get(name) or self.user.get(name) or self.presets.get(name)


class _Presets:
    """The built-in profiles, each in the file of its name and read when it is first asked for: a start needs one, and
    all of them take a tenth of a second."""

    def __init__(self) -> None:
        self._files = {path.stem: path for path in sorted(presets_dir().glob("*.yaml"))}
        self._read: dict[str, PolicyLayer] = {}
        self.problems: list[PolicyProblem] = []

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def get(self, name: str) -> PolicyLayer | None:
        if name in self._files and name not in self._read:
            self._read[name], problem = next(_read_file(self._files[name], PolicyScope.PRESET))
            self.problems += [problem] if problem else []
        return self._read.get(name)


class PolicyLibrary:
    """All profiles of one workspace. Reads files on first use and on ``reload``, a preset when it is first asked for
    (blocking: call it in a thread).

    ``user_dir`` holds the user's profiles, ``own_dir`` what they decided about this workspace, ``managed_dir`` the
    administrator's profiles; each may be absent.
    """

    def __init__(
        self,
        root: Path,
        user_dir: Path | None = None,
        base: str = BASE,
        *,
        own_dir: Path | None = None,
        managed_dir: Path | None = None,
    ) -> None:
        self._root, self._base = root, base
        self.user_dir, self._own_dir, self._managed_dir = user_dir, own_dir, managed_dir
        self._presets = _Presets()
        self._lock = threading.Lock()
        self._loaded: _Loaded | None = None

    @classmethod
    def of(
        cls, root: Path, settings: PolicySettings, environ: Mapping[str, str] | None = None
    ) -> PolicyLibrary:
        """The library that the settings of a workspace describe; what its default needs is read here."""
        library = cls(
            root,
            policies_dir(settings.directory, environ),
            settings.default if settings.default in (INTERACTIVE, HEADLESS) else HEADLESS,
            own_dir=workspace_config_dir(root, environ),
            managed_dir=managed_policies_dir(),
        )
        library.read(settings.default or INTERACTIVE)
        return library

    @property
    def directories(self) -> tuple[Path, ...]:
        """The folders to watch. They need not exist."""
        given = (self.user_dir, self._own_dir, self._managed_dir)
        return (*(folder for folder in given if folder), self._root / PROJECT_FOLDER)

    def files(self) -> list[Path]:
        """The policy files that are there now, to be watched; those of a folder that cannot be read are none."""
        found: list[Path] = []
        for folder in self.directories:
            with contextlib.suppress(OSError):
                found += _yaml_files(folder)
        return found

    @property
    def always_file(self) -> Path | None:
        """The user's own file for this workspace."""
        return self._own_dir / ALWAYS_FILE if self._own_dir else None

    @property
    def always(self) -> PolicyLayer | None:
        """What the person allowed for good in this workspace; one that denies everything if the file is broken."""
        return self._now().always

    @property
    def problems(self) -> list[PolicyProblem]:
        """What is wrong with policy files now."""
        return [*self._presets.problems, *self._now().problems]

    def names(self) -> list[str]:
        """Every name that ``get`` knows, sorted."""
        now = self._now()
        return sorted({*now.presets, *now.user, *now.managed, *now.project} - {MANAGED})

    def origin(self, name: str) -> tuple[PolicyScope | None, str]:
        """Who defines a name, and in which file; None where nobody does, or only a project."""
        now = self._now()
        if name == MANAGED:
            return PolicyScope.MANAGED, ""
        found = now.base(name)
        return (found.scope, found.source) if found else (None, "")

    def read(self, name: str | None = None) -> None:
        """Read what the profile of this name needs, or all there is, so that nobody waits for it later."""
        for one in [name] if name else self.names():
            with contextlib.suppress(NotFound):
                self.get(one)

    def scope_of(self, file: Path) -> PolicyScope | None:
        """Whose policy a file holds, by the folder it lies in; None where it is no policy file."""
        if file.suffix not in (".yaml", ".yml"):
            return None
        if file == self.always_file:
            return PolicyScope.ALWAYS
        folders = {
            presets_dir(): PolicyScope.PRESET,
            self._root / PRESETS_FOLDER: PolicyScope.PRESET,
            self._managed_dir: PolicyScope.MANAGED,
            self.user_dir: PolicyScope.USER,
            self._root / PROJECT_FOLDER: PolicyScope.PROJECT,
        }
        return folders.get(file.parent)

    def get(self, name: str) -> list[PolicyLayer]:
        """The layers of a profile: who defines it, the project's, what was allowed always, what is managed.

        Raises ``NotFound``."""
        now = self._now()
        layers = [layer for layer in (now.base(name) if name != MANAGED else None,) if layer]
        if (tightening := now.project.get(name)) is not None:
            layers = layers or self._foundation(now)
            layers.append(tightening)
        if not layers:
            raise NotFound(
                f"There is no policy profile {name[:80]!r}.", hint=f"Known are: {', '.join(self.names())}."
            )
        return [*layers, *(layer for layer in (now.always, now.managed.get(MANAGED)) if layer)]

    def load_file(self, path: Path) -> list[PolicyLayer]:
        """The layers of a profile in a file that a person named. Raises ``InvalidInput`` with the line."""
        managed = self._now().managed.get(MANAGED)
        return [load_file(path), *([managed] if managed else [])]

    def reload(self) -> None:
        """Read all files again; what was loaded stays in force until it is complete."""
        loaded = self._load()
        with self._lock:
            self._loaded = loaded

    def _now(self) -> _Loaded:
        with self._lock:
            if self._loaded is None:
                self._loaded = self._load()
            return self._loaded

    def _foundation(self, now: _Loaded) -> list[PolicyLayer]:
        found = now.base(self._base) or now.presets.get(BASE)
        return [
            found or _closed(self._base, PolicyScope.PRESET, "", f"the base profile {self._base} is missing")
        ]

    def _load(self) -> _Loaded:
        loaded = _Loaded(self._presets)
        places: list[tuple[Path, PolicyScope, dict[str, PolicyLayer]]] = []
        if self.user_dir is not None:
            places.append((self.user_dir, PolicyScope.USER, loaded.user))
        if self._managed_dir is not None:
            places.append((self._managed_dir, PolicyScope.MANAGED, loaded.managed))
        places.append((self._root / PROJECT_FOLDER, PolicyScope.PROJECT, loaded.project))
        for folder, scope, into in places:
            for layer, problem in _read_folder(folder, scope):
                if problem:
                    loaded.problems.append(problem)
                _add(layer, into, loaded)
        loaded.problems += _unused(loaded)
        if (own := self.always_file) is not None and own.exists():
            for layer, problem in _read_file(own, PolicyScope.ALWAYS):
                loaded.always = layer
                loaded.problems += [problem] if problem else []
                break
        return loaded


def presets_dir() -> Path:
    """Where the built-in profiles lie: in the package when installed, in the repository when run from it."""
    installed = Path(__file__).parent / "presets"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "policies"


def effective_limits(layers: Sequence[PolicyLayer]) -> tuple[Termination, QualityGate, ResourceLimits]:
    """The limits of several layers together: the smallest that is set, every gate that one asks for."""
    ends = [layer.profile.termination for layer in layers]
    gates = [layer.profile.quality_gate for layer in layers]
    limits = [layer.profile.resource_limits for layer in layers]
    return (
        Termination(
            max_steps=int(_least([end.max_steps for end in ends])),
            timeout_seconds=_least([end.timeout_seconds for end in ends]),
            max_cost=_least([end.max_cost for end in ends]),
            stall_detection=any(end.stall_detection for end in ends),
            stall_threshold=int(_least([end.stall_threshold for end in ends if end.stall_detection] or [5])),
        ),
        QualityGate(
            require_tests_pass=any(gate.require_tests_pass for gate in gates),
            require_lint_pass=any(gate.require_lint_pass for gate in gates),
            rollback_on_gate_fail=any(gate.rollback_on_gate_fail for gate in gates),
        ),
        ResourceLimits(
            memory_mb=int(_least([limit.memory_mb for limit in limits])),
            cpu_quota=int(_least([limit.cpu_quota for limit in limits])),
            pids_limit=int(_least([limit.pids_limit for limit in limits])),
            storage_gb=int(_least([limit.storage_gb for limit in limits])),
            wall_seconds=_least([limit.wall_seconds for limit in limits]),
            output_mb=int(_least([limit.output_mb for limit in limits])),
            network_mode=_network(layers),
        ),
    )


def _network(layers: Sequence[PolicyLayer]) -> NetworkMode | None:
    """Open only where every whole profile opens it; one that says nothing leaves it to the settings. What is added to
    a profile (a project's file, what was allowed always, what is managed, one run) can only close it."""
    said = [(layer.scope, layer.profile.resource_limits.network_mode) for layer in layers]
    if any(mode is NetworkMode.NONE for _, mode in said):
        return NetworkMode.NONE
    whole = [mode for scope, mode in said if scope in (PolicyScope.PRESET, PolicyScope.USER)]
    return NetworkMode.HOST if whole and all(mode is NetworkMode.HOST for mode in whole) else None


def _least(values: Sequence[float]) -> float:
    return min((value for value in values if value), default=0)


def _yaml_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix in (".yaml", ".yml"))


def _read_folder(folder: Path, scope: PolicyScope) -> Iterator[tuple[PolicyLayer, PolicyProblem | None]]:
    try:
        files = _yaml_files(folder)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        message = f"the folder cannot be read: {error.strerror or error}"
        name = (
            MANAGED if scope is PolicyScope.MANAGED else BASE
        )  # what it may have said is on top of every profile
        yield (
            _closed(name, scope, str(folder), message),
            PolicyProblem(file=str(folder), line=0, message=message),
        )
        return
    for path in files[:MAX_FILES]:
        yield from _read_file(path, scope)
    if len(files) > MAX_FILES:
        message = f"more than {MAX_FILES} policy files; the rest is not read"
        yield (
            _closed(files[MAX_FILES].stem, scope, str(folder), message),
            PolicyProblem(file=str(folder), line=0, message=message),
        )


def _read_file(path: Path, scope: PolicyScope) -> Iterator[tuple[PolicyLayer, PolicyProblem | None]]:
    """Its layer; if it is broken, layers that close the names it may have meant, and once what is wrong."""
    try:
        yield load_layer(path, scope), None
    except Broken as error:
        said: PolicyProblem | None = PolicyProblem(file=str(path), line=error.line, message=error.message)
        why = f"{path.name}:{error.line}: {error.message}"
        for name in dict.fromkeys(filter(None, (error.name, path.stem))):
            yield _closed(name, scope, str(path), why, error.line), said
            said = None


def _unused(loaded: _Loaded) -> Iterator[PolicyProblem]:
    """Files of the user under a name that the administrator has taken."""
    for name in sorted({*loaded.user} & {*loaded.managed, MANAGED}):
        message = f"the name {name!r} belongs to this machine's administrator; this file is not used"
        yield PolicyProblem(file=loaded.user[name].source, line=loaded.user[name].mode_line, message=message)


def _add(layer: PolicyLayer, into: dict[str, PolicyLayer], loaded: _Loaded) -> None:
    name = layer.profile.name
    if name not in into:
        into[name] = layer
    elif into[name].source != layer.source:
        message = f"the name {name!r} is already taken by {into[name].source}; the name denies everything"
        loaded.problems.append(PolicyProblem(file=layer.source, line=0, message=message))
        into[name] = _closed(name, layer.scope, layer.source, message)


def _closed(name: str, scope: PolicyScope, source: str, why: str, line: int = 0) -> PolicyLayer:
    """A layer that denies everything and says why."""
    rule = PermissionRule(
        specifier=ToolSpecifier(tool=ANY_TOOL),
        decision=Decision.DENY,
        reason=f"the policy file is broken: {why}",
    )
    try:
        profile = PolicyProfile(name=name, description=why[:300], mode=PolicyMode.PLAN, rules=(rule,))
    except ValueError:  # the file's name is no profile name, so nobody can ask for it either
        profile = PolicyProfile(name="broken", description=why[:300], mode=PolicyMode.PLAN, rules=(rule,))
    return PolicyLayer(profile=profile, scope=scope, source=source, rule_lines=(line,), mode_line=line)
