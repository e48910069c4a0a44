"""The limits of a command: the settings', then the policy's, then the caller's, under a ceiling (SEC-1, SEC-2)."""

from __future__ import annotations

from codeforge_ls.config import SandboxSettings
from codeforge_ls.model.limits import ExecMode, Execution, NetworkMode, ResourceLimits

CEILING = 4  # times the default: what policy and caller may raise a limit to

DEFAULT = ResourceLimits(
    memory_mb=2048,
    cpu_quota=2000,
    pids_limit=512,
    storage_gb=10,
    wall_seconds=3600,
    output_mb=64,
    network_mode=NetworkMode.NONE,
)
# a container for work that nobody watches (row RUN-15)
CONTAINER = DEFAULT.overridden(ResourceLimits(memory_mb=512, cpu_quota=1000, pids_limit=100, storage_gb=10))


def resolved(
    settings: SandboxSettings,
    mode: ExecMode | None,
    policy: ResourceLimits,
    asked: ResourceLimits | None = None,
    *,
    only_tighten: bool = False,
) -> Execution:
    """The mode and the limits in force. What says nothing leaves the one before in force.

    ``asked`` is the caller's wish; with ``only_tighten`` (a caller that is no person) it may not go beyond what holds
    without it, and its mode counts only where the settings isolate least. The network is not a number and has no
    ceiling: it is open when policy, or settings and no policy, open it, and a caller can only close it.
    """
    chosen = settings.mode
    if mode is not None and (not only_tighten or settings.mode is ExecMode.MOUNT):
        chosen = mode
    base = (CONTAINER if chosen is ExecMode.SANDBOX else DEFAULT).overridden(_own(settings))
    limits = _capped(base.overridden(policy), base)
    wish = asked or ResourceLimits()
    wish = wish.model_copy(
        update={"network_mode": NetworkMode.NONE if wish.network_mode is NetworkMode.NONE else None}
    )
    if only_tighten:
        return Execution(mode=chosen, limits=limits.tightened(wish))
    return Execution(mode=chosen, limits=_capped(limits.overridden(wish), base))


def _own(settings: SandboxSettings) -> ResourceLimits:
    return ResourceLimits(
        memory_mb=settings.memory_mb,
        cpu_quota=settings.cpu_quota,
        pids_limit=settings.pids_limit,
        storage_gb=settings.storage_gb,
        wall_seconds=settings.wall_seconds,
        output_mb=settings.output_mb,
        network_mode=settings.network,
    )


def _capped(limits: ResourceLimits, base: ResourceLimits) -> ResourceLimits:
    ceiling = {
        name: value * CEILING for name, value in base.said().items() if not isinstance(value, NetworkMode)
    }
    return limits.model_copy(
        update={name: min(value, most) for name, most in ceiling.items() if (value := getattr(limits, name))}
    )
