"""Operations on the audit trail: who did what, when and why, and whether the log behind it is whole."""

from __future__ import annotations

from pydantic import Field

from codeforge_ls.model.audit import AuditFilter, AuditPage
from codeforge_ls.model.base import Frozen, JsonObject
from codeforge_ls.operations.operation import Call, Operation

PAGE = 20  # lines that an agent gets at once: a model reads them all


async def audit_list(call: Call, arguments: AuditFilter) -> JsonObject:
    """A page of the trail; ``next_cursor`` is the ``cursor`` of the next one, null after the last."""
    if arguments.run_id is not None:
        await call.workspace.store.run(arguments.run_id)  # an unknown one is a slip, not an empty trail
    entries = await call.workspace.store.audit_trail(arguments)
    more = len(entries) == arguments.limit
    left_out = None if arguments.full else {"event"}
    return {
        "entries": [entry.model_dump(mode="json", exclude=left_out) for entry in entries],
        "next_cursor": entries[-1].position if more else None,
    }


async def audit_page(call: Call, arguments: AuditPage) -> JsonObject:
    """The same for agents: short pages, and no events, which hold what the policy may keep from them."""
    actions = (arguments.action,) if arguments.action is not None else ()
    wanted = AuditFilter(run_id=arguments.run_id, actions=actions, cursor=arguments.cursor, limit=PAGE)
    return await audit_list(call, wanted)


class Anchor(Frozen):
    """An export of earlier, which the log must still hold."""

    against: str | None = Field(default=None, min_length=1, max_length=4096)


async def audit_verify(call: Call, arguments: Anchor) -> JsonObject:
    """Check every hash chain, that the state tables are what the log says, and an earlier export against it."""
    store = call.workspace.store
    broken = list(await store.verify(None))
    tables = await store.refold()
    if arguments.against is not None:
        broken += await store.compared_with(call.workspace.root / arguments.against)
    return {"sound": not broken and not tables, "broken": [*broken], "tables": tables}


OPERATIONS = (
    Operation("audit.list", "Who did what, when and why", AuditFilter, audit_list, persons_only=True),
    Operation("audit.page", "The same in short pages, for agents too", AuditPage, audit_page),
    Operation("audit.verify", "Check that the log is whole", Anchor, audit_verify, persons_only=True),
)
