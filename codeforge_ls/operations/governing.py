"""Operations on policies, approvals and the log."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from pydantic import Field

from codeforge_ls.model.approvals import Verdict
from codeforge_ls.model.base import Frozen, JsonObject
from codeforge_ls.model.errors import InvalidInput
from codeforge_ls.model.policy import PolicyLayer, PolicyScope, ToolCall
from codeforge_ls.operations.operation import Call, Nothing, Operation
from codeforge_ls.policy.evaluate import evaluate


async def policy_list(call: Call, _arguments: Nothing) -> JsonObject:
    """The profiles that can be named, the one in force for this caller, and what is wrong with policy files."""
    policies = call.workspace.policies
    return {
        "profiles": [
            {"name": name, "description": policies.get(name)[0].profile.description}
            for name in policies.names()
        ],
        "default": call.workspace.authority.default_profile(call.actor),
        "problems": [problem.model_dump(mode="json") for problem in policies.problems],
    }


class PolicyName(Frozen):
    """Which profile."""

    name: str = Field(min_length=1, max_length=100)


async def policy_get(call: Call, arguments: PolicyName) -> JsonObject:
    """The layers of a profile: what is evaluated, in full."""
    layers = call.workspace.policies.get(arguments.name)
    return {"layers": [layer.model_dump(mode="json") for layer in layers]}


class PolicyQuestion(Frozen):
    """A tool call to judge under a profile (name), a profile file, or the default."""

    tool: str = Field(min_length=1, max_length=200)
    command: str | None = Field(default=None, max_length=100_000)
    path: str | None = Field(default=None, max_length=10_000)
    profile: str | None = Field(default=None, max_length=4096)
    file: str | None = Field(default=None, max_length=4096)


async def policy_explain(call: Call, arguments: PolicyQuestion) -> JsonObject:
    """The decision and why."""
    workspace = call.workspace
    if arguments.file is not None:
        profile = await asyncio.to_thread(workspace.policies.load_file, Path(arguments.file))
        layers: tuple[PolicyLayer, ...] = (
            PolicyLayer(profile=profile, scope=PolicyScope.RUN, source=arguments.file),
        )
    else:
        layers = workspace.authority.layers(call.actor, arguments.profile)
    question = ToolCall(tool=arguments.tool, command=arguments.command, path=arguments.path)
    return evaluate(layers, question, workspace.root).model_dump(mode="json")


async def approval_list(call: Call, _arguments: Nothing) -> JsonObject:
    """The questions that wait for a person."""
    return {"approvals": [approval.model_dump(mode="json") for approval in call.workspace.approvals.open()]}


class ApprovalAnswer(Frozen):
    """Which question, and the answer."""

    approval_id: str = Field(min_length=1, max_length=100)
    verdict: Verdict


async def approval_answer(call: Call, arguments: ApprovalAnswer) -> JsonObject:
    """Answer a question. Only people can."""
    if arguments.verdict is Verdict.DISMISSED:
        raise InvalidInput("Answer allow_once, allow_run, allow_always or deny.", data={"field": "verdict"})
    answered = await call.workspace.approvals.answer(
        arguments.approval_id, arguments.verdict, call.actor.label
    )
    return {"approval": answered.model_dump(mode="json")}


class Stream(Frozen):
    """One stream, or all."""

    stream: str | None = Field(default=None, max_length=200)


async def events_verify(call: Call, arguments: Stream) -> JsonObject:
    """Check the hash chain of the log."""
    broken = await call.workspace.store.verify(arguments.stream)
    return {"sound": not broken, "broken": list(broken)}


class Retention(Frozen):
    """Streams whose last event is older than so many days; the configured retention when not given."""

    older_than_days: float | None = Field(default=None, ge=0, le=36_500)


async def events_drop(call: Call, arguments: Retention) -> JsonObject:
    """Export whole old streams and drop them; recorded in the workspace's own stream."""
    workspace = call.workspace
    days = arguments.older_than_days
    days = workspace.settings.events.retention_days if days is None else days
    folder = workspace.state / "exports"
    dropped = await workspace.store.drop_streams(time.time() - days * 86_400, folder, call.actor.label)
    return {"dropped": list(dropped), "exported_to": str(folder)}


OPERATIONS = (
    Operation("policy.list", "List policy profiles", Nothing, policy_list),
    Operation("policy.get", "A policy profile in full", PolicyName, policy_get),
    Operation(
        "policy.explain", "What the policy says of a tool call, and why", PolicyQuestion, policy_explain
    ),
    Operation("approval.list", "Questions that wait", Nothing, approval_list, persons_only=True, vital=True),
    Operation(
        "approval.answer",
        "Answer a question",
        ApprovalAnswer,
        approval_answer,
        persons_only=True,
        changes=True,
        vital=True,
    ),
    Operation("events.verify", "Check the log", Stream, events_verify, persons_only=True),
    Operation(
        "events.drop", "Export and drop old streams", Retention, events_drop, persons_only=True, changes=True
    ),
)
