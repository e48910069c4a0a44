"""Operations on policies, approvals and the log."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from codeforge_ls.model.approvals import Verdict
from codeforge_ls.model.base import Frozen, JsonObject
from codeforge_ls.model.errors import InvalidInput
from codeforge_ls.model.events import EventDraft, EventType
from codeforge_ls.model.policy import PolicyLayer, PolicyScope, ToolCall
from codeforge_ls.operations.operation import Call, Nothing, Operation
from codeforge_ls.policy.evaluate import evaluate
from codeforge_ls.policy.loader import Broken, parse_layer
from codeforge_ls.policy.schema import policy_schema
from codeforge_ls.policy.trial import try_rule


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
    """A tool call to judge under a profile (name), a profile file, what is stored with a run, or the default."""

    tool: str = Field(min_length=1, max_length=200)
    command: str | None = Field(default=None, max_length=100_000)
    path: str | None = Field(default=None, max_length=10_000)
    profile: str | None = Field(default=None, max_length=4096)
    file: str | None = Field(default=None, max_length=4096)
    run_id: str | None = Field(default=None, max_length=100)


async def policy_explain(call: Call, arguments: PolicyQuestion) -> JsonObject:
    """The decision and why."""
    workspace = call.workspace
    if arguments.file is not None:
        layers: Sequence[PolicyLayer] = await asyncio.to_thread(
            workspace.policies.load_file, Path(arguments.file)
        )
    elif arguments.run_id is not None:
        layers = (await workspace.store.run(arguments.run_id)).layers
    else:
        layers = workspace.authority.layers(call.actor, arguments.profile)
    question = ToolCall(tool=arguments.tool, command=arguments.command, path=arguments.path)
    return evaluate(layers, question, workspace.root).model_dump(mode="json")


class RuleTrial(Frozen):
    """A rule of a policy file's text by its index from 0, and what to try: a command or a path, else its examples."""

    yaml: str = Field(min_length=1, max_length=64 << 10)
    file: str = Field(default="", max_length=4096, description="Where the text stands, for the answer")
    rule: int = Field(ge=0, le=100_000)
    input: str | None = Field(default=None, min_length=1, max_length=8192)


async def policy_try(call: Call, arguments: RuleTrial) -> JsonObject:
    """What the profile in that text says of the rule's examples, or of the input."""
    scope = call.workspace.policies.scope_of(Path(arguments.file)) or PolicyScope.USER
    if scope is PolicyScope.ALWAYS:
        scope = PolicyScope.USER  # alone it only answers the questions of others
    try:
        layer = await asyncio.to_thread(parse_layer, arguments.yaml, scope, arguments.file)
    except Broken as error:
        raise error.for_person(arguments.file or "the profile") from error
    trial = try_rule(layer, arguments.rule, arguments.input, call.workspace.root)
    return {**trial.model_dump(mode="json"), "text": trial.text}


class PolicyText(Frozen):
    """A whole profile as YAML."""

    yaml: str = Field(min_length=1, max_length=64 << 10)


async def policy_save(call: Call, arguments: PolicyText) -> JsonObject:
    """Create or replace a profile of the person's own. Its examples are tested first; recorded in the log."""
    layer = await call.workspace.policy_writer.save(arguments.yaml, call.actor.label)
    await call.workspace.reload_settings()
    return {"name": layer.profile.name, "file": layer.source}


async def policy_delete(call: Call, arguments: PolicyName) -> JsonObject:
    """Delete a profile of the person's own; the log keeps its text."""
    file = await call.workspace.policy_writer.delete(arguments.name, call.actor.label)
    await call.workspace.reload_settings()
    return {"name": arguments.name, "file": file}


async def policy_always(call: Call, _arguments: Nothing) -> JsonObject:
    """What the person allowed for good in this workspace."""
    rules = await call.workspace.policy_writer.standing()
    return {"rules": [rule.model_dump(mode="json") for rule in rules]}


class RuleIndex(Frozen):
    """Which rule, counted from 0."""

    index: int = Field(ge=0, le=100_000)


async def policy_forget(call: Call, arguments: RuleIndex) -> JsonObject:
    """Ask again for what was allowed for good."""
    rule = await call.workspace.policy_writer.forget(arguments.index, call.actor.label)
    return {"forgotten": rule.model_dump(mode="json")}


async def policy_schema_of(_call: Call, _arguments: Nothing) -> JsonObject:
    """The JSON schema of a policy file."""
    return {"schema": policy_schema()}


async def trust_show(call: Call, _arguments: Nothing) -> JsonObject:
    """The workspace's settings file, its hash, whether it is trusted, and what counts only then."""
    await call.workspace.reload_settings()
    return call.workspace.config.file_trust.model_dump(mode="json")


class FileHash(Frozen):
    """Which version of the workspace's file: the hash that ``trust.show`` gave."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


async def trust_grant(call: Call, arguments: FileHash) -> JsonObject:
    """Trust exactly this version of the workspace's settings file. Only people can."""
    return await _trust(call, arguments.sha256)


async def trust_revoke(call: Call, _arguments: Nothing) -> JsonObject:
    """Trust no version of the workspace's settings file any more."""
    return await _trust(call, None)


async def _trust(call: Call, sha256: str | None) -> JsonObject:
    workspace = call.workspace
    await asyncio.to_thread(workspace.config.trust, sha256)
    outcome = await workspace.reload_settings()
    found = workspace.config.file_trust
    await workspace.store.append(
        EventDraft(
            stream="workspace",
            type=EventType.TRUST_CHANGED,
            payload={"file": found.file, "trusted": found.trusted, "sha256": found.sha256,
                     "settings": found.withheld},
            actor=call.actor.label,
        )
    )  # fmt: skip
    return {**found.model_dump(mode="json"), "restart_needed": list(outcome.restart_needed)}


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
    Operation("policy.try", "Try a rule of a policy file out", RuleTrial, policy_try),
    Operation("policy.schema", "The JSON schema of a policy file", Nothing, policy_schema_of),
    Operation(
        "policy.save",
        "Create or replace a policy profile",
        PolicyText,
        policy_save,
        persons_only=True,
        changes=True,
    ),
    Operation(
        "policy.delete", "Delete a policy profile", PolicyName, policy_delete, persons_only=True, changes=True
    ),
    Operation("policy.always", "What is allowed always here", Nothing, policy_always, persons_only=True),
    Operation(
        "policy.forget",
        "Ask again for what was allowed always",
        RuleIndex,
        policy_forget,
        persons_only=True,
        changes=True,
    ),
    Operation(
        "trust.show", "Is the workspace's settings file trusted?", Nothing, trust_show, persons_only=True
    ),
    Operation(
        "trust.grant",
        "Trust the workspace's settings file",
        FileHash,
        trust_grant,
        persons_only=True,
        changes=True,
    ),
    Operation(
        "trust.revoke",
        "Trust the workspace's settings file no more",
        Nothing,
        trust_revoke,
        persons_only=True,
        changes=True,
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
