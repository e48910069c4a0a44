"""A call under an idempotency key: it runs once; whoever repeats it gets the answer of the first."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import TypeVar

from codeforge_ls.actions.pending import ANSWER_WITHIN
from codeforge_ls.model.actions import Outcome
from codeforge_ls.model.base import Frozen, JsonObject, JsonValue
from codeforge_ls.model.errors import CodeForgeError, Conflict, InvalidInput
from codeforge_ls.store.reservations import Reservation, Reservations, Scope

KEY = "idempotencyKey"
MAX_KEY = 255  # characters
NOTHING_DONE = (Outcome.CONFLICT.value, Outcome.FAILED.value)  # an answer with this status changed nothing
LOOK = "`codeforge runs` and `codeforge checkpoints` show what was done."

T = TypeVar("T")
Work = Callable[[], Awaitable[JsonObject]]

log = logging.getLogger(__name__)


def checked_key(raw: JsonValue) -> str:
    """A key as a client gave it. Raises ``InvalidInput``."""
    if isinstance(raw, str) and 0 < len(raw) <= MAX_KEY and raw.isprintable():
        return raw
    raise InvalidInput(
        f"{KEY} is a text of 1 to {MAX_KEY} printable characters.",
        hint="Make a new one for each call, such as a UUID, and repeat it only with that call.",
        data={"field": KEY},
    )


def fingerprint(arguments: Frozen) -> str:
    """What two calls with the same arguments, defaults given or left out, have in common."""
    return hashlib.sha256(arguments.model_dump_json().encode()).hexdigest()


@dataclass
class _UnderWay:
    """A call at work. ``waits`` is its first answer that said only that a person has not answered yet."""

    arguments: str
    task: asyncio.Task[JsonObject]
    waits: asyncio.Future[JsonObject] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class Once:
    """The keyed calls of one daemon.

    A keyed call goes on when its caller leaves or gives up: otherwise nobody could say what came of it. A key that is
    reserved and not under way was left by a daemon that died: nobody knows how far it came.
    """

    def __init__(self, reservations: Reservations) -> None:
        self._reservations = reservations
        self._under_way: dict[Scope, _UnderWay] = {}
        self._beginning = asyncio.Lock()
        self._tasks: set[asyncio.Task[object]] = set()

    async def perform(
        self, scope: Scope, arguments: str, work: Work, on_replay: Callable[[], None]
    ) -> JsonObject:
        """Do the work, or tell what came of it before; ``on_replay`` is called first then.

        Raises what the work raises, and ``Conflict``: it is under way, the key was used for other arguments, its answer
        was too large to be kept, or nobody knows how it ended.
        """
        begun = await asyncio.shield(self._spawn(self._begin(scope, arguments, work)))
        if isinstance(begun, Reservation):
            answer = self._kept(scope, arguments, begun)
            on_replay()
            return answer
        first, call = begun
        if not first:
            return await self._joined(scope, arguments, call)
        await asyncio.wait({call.task, call.waits}, return_when=asyncio.FIRST_COMPLETED)
        return call.task.result() if call.task.done() else call.waits.result()

    async def _begin(self, scope: Scope, arguments: str, work: Work) -> Reservation | tuple[bool, _UnderWay]:
        """The call and whether this one began it, or what is on record. One at a time, so that exactly one begins."""
        async with self._beginning:
            if known := self._under_way.get(scope):
                return False, known
            if found := await self._reservations.reserve(scope, arguments):
                return found
            call = self._under_way[scope] = _UnderWay(arguments, self._spawn(self._work(scope, work)))
            return True, call

    async def _work(self, scope: Scope, work: Work) -> JsonObject:
        try:
            answer = await work()
            while answer.get("status") == Outcome.PENDING:
                waits = self._under_way[scope].waits
                if not waits.done():
                    waits.set_result(answer)
                answer = await work()  # joins the action that waits for a person
        except Exception:
            await self._record(self._reservations.release(scope))
            raise
        else:
            nothing = answer.get("status") in NOTHING_DONE
            keeping = (
                self._reservations.release(scope) if nothing else self._reservations.finish(scope, answer)
            )
            await self._record(keeping)
            return answer
        finally:
            del self._under_way[scope]

    async def _record(self, writing: Coroutine[object, object, None]) -> None:
        """Write how it ended. Where that fails the caller still learns it, and a later one that nobody knows."""
        try:
            await writing
        except CodeForgeError as error:
            log.warning("the end of a call under a key was not recorded: %s", error)

    async def _joined(self, scope: Scope, arguments: str, call: _UnderWay) -> JsonObject:
        _must_fit(scope, arguments, call.arguments)
        if not call.waits.done():
            raise Conflict(
                f"The call with this {KEY} is still in progress.",
                hint="Wait, then repeat it to get its answer.",
                data={"field": KEY, "state": "in_progress"},
            )
        await asyncio.wait({call.task}, timeout=ANSWER_WITHIN)
        return call.task.result() if call.task.done() else call.waits.result()

    def _kept(self, scope: Scope, arguments: str, found: Reservation) -> JsonObject:
        _must_fit(scope, arguments, found.arguments)
        if not found.done:
            raise Conflict(
                f"The call with this {KEY} was begun and its end not recorded: its outcome is unknown.",
                hint=f"{LOOK} Then use a new key.",
                data={"field": KEY, "state": "unknown"},
            )
        if found.answer is None:
            raise Conflict(
                f"The call with this {KEY} was done; its answer of {found.bytes} bytes was too large to be kept.",
                hint=LOOK,
                data={"field": KEY, "state": "done", "bytes": found.bytes},
            )
        return found.answer

    def _spawn(self, work: Coroutine[object, object, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[object]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):  # its caller may be gone
            log.debug("a call under a key failed", exc_info=error)


def _must_fit(scope: Scope, arguments: str, known: str) -> None:
    if arguments != known:
        raise Conflict(
            f"This {KEY} was used for {scope.operation} with other arguments.",
            hint="Use a new key for a new call.",
            data={"field": KEY, "state": "other_arguments"},
        )
