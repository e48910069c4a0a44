"""Runs, plans and their steps: what the state tables hold."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from codeforge_ls.model.base import Frozen
from codeforge_ls.model.limits import Execution
from codeforge_ls.model.policy import PolicyLayer


class RunStatus(StrEnum):
    """The life of a run (row RUN-1), and ``suspended``: stopped by a shutdown or a crash, can be resumed."""

    PENDING = "pending"
    RUNNING = "running"
    QUALITY_GATE = "quality_gate"
    SUSPENDED = "suspended"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMEOUT = "timeout"

    @property
    def is_terminal(self) -> bool:
        """Terminal states are never left."""
        return self in TERMINAL_RUN


TERMINAL_RUN = frozenset({RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED, RunStatus.TIMEOUT})


class Run(Frozen):
    """One task given to an agent. Money is in nano-USD; ``unpriced_calls`` counts model calls without a price."""

    id: str
    task: str
    profile: str = Field(description="Name of the policy profile asked for")
    layers: tuple[PolicyLayer, ...] = Field(
        default=(), description="Snapshot of what was in force at the start"
    )
    mode: str = "coder"
    execution: Execution = Field(
        default=Execution(), description="How its commands run, and within which limits"
    )
    model: str = ""
    status: RunStatus = RunStatus.PENDING
    reason: str = ""
    output: str = ""
    started_by: str = ""
    plan_id: str | None = None
    plan_step: int | None = None
    step_count: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost_nano_usd: int = 0
    unpriced_calls: int = 0
    created_at: float
    started_at: float | None = None
    ended_at: float | None = None
    version: int = 1

    @property
    def stream(self) -> str:
        """The event stream of this run."""
        return f"run:{self.id}"


class Protocol(StrEnum):
    """How the steps of a plan relate."""

    SEQUENTIAL = "sequential"


class PlanStatus(StrEnum):
    """The life of a plan."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        """Terminal states are never left."""
        return self in (PlanStatus.COMPLETED, PlanStatus.FAILED, PlanStatus.CANCELLED)


class StepStatus(StrEnum):
    """The life of one step of a plan."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"


class PlanStep(Frozen):
    """One task of a plan and the run that does it."""

    index: int
    task: str
    status: StepStatus = StepStatus.PENDING
    run_id: str | None = None
    error: str = ""


class Plan(Frozen):
    """A list of tasks run under one protocol."""

    id: str
    name: str
    protocol: Protocol = Protocol.SEQUENTIAL
    profile: str = ""
    status: PlanStatus = PlanStatus.PENDING
    steps: tuple[PlanStep, ...] = ()
    started_by: str = ""
    created_at: float
    ended_at: float | None = None
    version: int = 1

    @property
    def stream(self) -> str:
        """The event stream of this plan."""
        return f"plan:{self.id}"
