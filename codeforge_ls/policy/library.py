"""The policies that can be named: presets, the user's own, and what a project adds to tighten them.

- A file of the user replaces the preset of the same name.
- A file of the project (``.codeforge/policies``) never loosens: it is one more layer on top, and the strictest answer
  of all layers counts. Under a name of its own it stands on the ``base`` profile (``headless-safe-sandbox`` unless
  the default is another one).
- A broken file fails closed: the name it stands for denies everything and says why. It hides no other file.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from codeforge_ls.model.base import Frozen
from codeforge_ls.model.errors import NotFound
from codeforge_ls.model.policy import (
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
from codeforge_ls.policy.loader import Broken, load_file, load_profile
from codeforge_ls.policy.rules import ANY_TOOL

BASE = "headless-safe-sandbox"
MAX_FILES = 200
PROJECT_FOLDER = Path(".codeforge") / "policies"


class PolicyProblem(Frozen):
    """What is wrong with a policy file; ``line`` counts from 1, 0 where no line is to blame."""

    file: str
    line: int
    message: str


@dataclass
class _Loaded:
    presets: dict[str, PolicyLayer] = field(default_factory=dict)
    user: dict[str, PolicyLayer] = field(default_factory=dict)
    project: dict[str, PolicyLayer] = field(default_factory=dict)
    problems: list[PolicyProblem] = field(default_factory=list)


class PolicyLibrary:
    """All profiles of one workspace. Reads files on first use and on ``reload`` (blocking: call it in a thread)."""

    def __init__(self, root: Path, user_dir: Path | None = None, base: str = BASE) -> None:
        self._root, self._user_dir, self._base = root, user_dir, base
        self._lock = threading.Lock()
        self._loaded: _Loaded | None = None

    @property
    def directories(self) -> tuple[Path, ...]:
        """The folders to watch: the user's and the project's. They need not exist."""
        own = (self._user_dir,) if self._user_dir else ()
        return (*own, self._root / PROJECT_FOLDER)

    @property
    def problems(self) -> list[PolicyProblem]:
        """What is wrong with policy files now."""
        return list(self._now().problems)

    def names(self) -> list[str]:
        """Every name that ``get`` knows, sorted."""
        now = self._now()
        return sorted({*now.presets, *now.user, *now.project})

    def get(self, name: str) -> list[PolicyLayer]:
        """The layers of a profile: preset or user file, then the project's. Raises ``NotFound``."""
        now = self._now()
        layers = [layer for layer in (now.user.get(name) or now.presets.get(name),) if layer]
        if (tightening := now.project.get(name)) is not None:
            layers = layers or self._foundation(now)
            layers.append(tightening)
        if not layers:
            raise NotFound(
                f"There is no policy profile {name[:80]!r}.", hint=f"Known are: {', '.join(self.names())}."
            )
        return layers

    def load_file(self, path: Path) -> PolicyProfile:
        """A profile from a file that a person named. Raises ``InvalidInput`` with the line."""
        return load_file(path)

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
        found = now.user.get(self._base) or now.presets.get(self._base) or now.presets.get(BASE)
        return [
            found or _closed(self._base, PolicyScope.PRESET, "", f"the base profile {self._base} is missing")
        ]

    def _load(self) -> _Loaded:
        loaded = _Loaded()
        places: list[tuple[Path, PolicyScope, dict[str, PolicyLayer]]] = [
            (presets_dir(), PolicyScope.PRESET, loaded.presets)
        ]
        if self._user_dir is not None:
            places.append((self._user_dir, PolicyScope.USER, loaded.user))
        places.append((self._root / PROJECT_FOLDER, PolicyScope.PROJECT, loaded.project))
        for folder, scope, into in places:
            for layer, problem in _read_folder(folder, scope):
                if problem:
                    loaded.problems.append(problem)
                _add(layer, into, loaded)
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
    """Open only where every profile opens it; one that says nothing leaves it to the settings, and a project's
    file, which is an addition to another profile, leaves it to that."""
    said = [(layer.scope, layer.profile.resource_limits.network_mode) for layer in layers]
    if any(mode is NetworkMode.NONE for _, mode in said):
        return NetworkMode.NONE
    whole = [mode for scope, mode in said if scope is not PolicyScope.PROJECT]
    return NetworkMode.HOST if whole and all(mode is NetworkMode.HOST for mode in whole) else None


def _least(values: Sequence[float]) -> float:
    return min((value for value in values if value), default=0)


def _read_folder(folder: Path, scope: PolicyScope) -> Iterator[tuple[PolicyLayer, PolicyProblem | None]]:
    try:
        files = sorted(path for path in folder.iterdir() if path.suffix in (".yaml", ".yml"))
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        message = f"the folder cannot be read: {error.strerror or error}"
        yield (
            _closed(BASE, scope, str(folder), message),
            PolicyProblem(file=str(folder), line=0, message=message),
        )
        return
    for path in files[:MAX_FILES]:
        try:
            yield PolicyLayer(profile=load_profile(path), scope=scope, source=str(path)), None
        except Broken as error:
            said: PolicyProblem | None = PolicyProblem(file=str(path), line=error.line, message=error.message)
            why = f"{path.name}:{error.line}: {error.message}"
            for name in dict.fromkeys(filter(None, (error.name, path.stem))):
                yield _closed(name, scope, str(path), why), said
                said = None
    if len(files) > MAX_FILES:
        message = f"more than {MAX_FILES} policy files; the rest is not read"
        yield (
            _closed(files[MAX_FILES].stem, scope, str(folder), message),
            PolicyProblem(file=str(folder), line=0, message=message),
        )


def _add(layer: PolicyLayer, into: dict[str, PolicyLayer], loaded: _Loaded) -> None:
    name = layer.profile.name
    if name not in into:
        into[name] = layer
    elif into[name].source != layer.source:
        message = f"the name {name!r} is already taken by {into[name].source}; the name denies everything"
        loaded.problems.append(PolicyProblem(file=layer.source, line=0, message=message))
        into[name] = _closed(name, layer.scope, layer.source, message)


def _closed(name: str, scope: PolicyScope, source: str, why: str) -> PolicyLayer:
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
    return PolicyLayer(profile=profile, scope=scope, source=source)
