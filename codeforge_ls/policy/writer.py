"""Changes of policy files on a person's order: saved, deleted, allowed always, asked again. Each is in the log.

Nothing here is offered to an agent. The log keeps the text before and after, so that no edit loses one.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Sequence
from pathlib import Path

from codeforge_ls.config.private_file import replace_private
from codeforge_ls.model.approvals import Approval
from codeforge_ls.model.base import Frozen, JsonObject
from codeforge_ls.model.errors import Conflict, Denied, LimitReached, NotFound, Unavailable
from codeforge_ls.model.events import EventDraft, EventType
from codeforge_ls.model.policy import PROFILE_NAME, PermissionRule, PolicyLayer, PolicyScope
from codeforge_ls.policy.always import narrow_rule, with_rule, without_rule
from codeforge_ls.policy.library import PolicyLibrary
from codeforge_ls.policy.loader import MAX_BYTES, MAX_RULES, Broken, parse_layer
from codeforge_ls.store import Store


class StandingRule(Frozen):
    """A rule of the person's own file for this workspace, and where it stands."""

    index: int
    rule: PermissionRule
    file: str
    line: int


class PolicyWriter:
    """Writes the user's own policy files and reloads the library. ``root`` is named in the file it makes."""

    def __init__(self, root: Path, library: PolicyLibrary, store: Store) -> None:
        self._root, self._library, self._store = root, library, store
        self._lock = asyncio.Lock()

    @staticmethod
    def can_allow_always(tool: str, paths: Sequence[str], command: str | None) -> bool:
        """Whether there is a rule narrow enough to offer "always" for this."""
        return narrow_rule(tool, paths, command) is not None

    async def allow_always(self, approval: Approval, by: str) -> StandingRule:
        """Write the narrow rule that this question asks for into the user's file for this workspace.

        ``by`` is who answered, such as ``editor:Neovim``. The rule holds from now on for every run that starts; a run
        at work keeps the policy it began with. A rule that is there already is not written twice. Raises ``Denied``
        where no rule is narrow enough or the administrator asks, ``Conflict`` when the file is broken (it is left
        as it is), ``LimitReached`` when it is full.
        """
        when = time.strftime("%Y-%m-%d", time.gmtime())
        rule = narrow_rule(
            approval.tool, approval.paths, approval.command, f"allowed always by {by} on {when}"[:200]
        )
        if rule is None or approval.decision.scope in (PolicyScope.MANAGED, PolicyScope.RUN):
            raise Denied("This cannot be allowed always.", hint="Allow it once, or write a rule by hand.")
        async with self._lock:
            file, before, layer = await asyncio.to_thread(self._own_file)
            known = list(layer.profile.rules) if layer else []
            same = [rule.specifier, rule.path_allow, rule.command_exact]
            for index, one in enumerate(known):
                if layer and [one.specifier, one.path_allow, one.command_exact] == same:
                    return StandingRule(index=index, rule=one, file=str(file), line=layer.line_of(index))
            if len(known) >= MAX_RULES:
                raise LimitReached(f"{file} holds {MAX_RULES} rules already.", hint="Remove some of them.")
            after = await asyncio.to_thread(with_rule, before, rule, self._root)
            written = await self._put(file, before, after, PolicyScope.ALWAYS, "allowed always", by)
        index = len(known)
        return StandingRule(index=index, rule=rule, file=str(file), line=written.line_of(index))

    async def standing(self) -> list[StandingRule]:
        """What was allowed for good in this workspace. Raises ``Conflict`` when the file is broken."""
        file, _, layer = await asyncio.to_thread(self._own_file)
        rules = layer.profile.rules if layer else ()
        return [
            StandingRule(index=index, rule=rule, file=str(file), line=layer.line_of(index) if layer else 0)
            for index, rule in enumerate(rules)
        ]

    async def forget(self, index: int, by: str) -> StandingRule:
        """Take one rule out again, so that it is asked for. Raises ``NotFound``."""
        async with self._lock:
            file, before, layer = await asyncio.to_thread(self._own_file)
            if layer is None or not 0 <= index < len(layer.profile.rules):
                raise NotFound(
                    f"There is no rule {index} in {file}.", hint="`codeforge policy always` lists them."
                )
            gone = StandingRule(
                index=index, rule=layer.profile.rules[index], file=str(file), line=layer.line_of(index)
            )
            after = await asyncio.to_thread(without_rule, before or "", index)
            await self._put(file, before, after, PolicyScope.ALWAYS, "asked again", by)
        return gone

    async def save(self, text: str, by: str) -> PolicyLayer:
        """Create or replace a profile of the user's own from YAML, its examples tested, mode 0600.

        Raises ``InvalidInput`` with the line for a text that is no profile, ``Denied`` for the name of a preset or of a
        managed profile.
        """
        try:
            layer = await asyncio.to_thread(parse_layer, text, PolicyScope.USER, "")
        except Broken as error:
            raise error.for_person("the profile") from error
        async with self._lock:
            file = await asyncio.to_thread(self._file_of, layer.profile.name)
            before = await asyncio.to_thread(_text_of, file)
            return await self._put(file, before, text, PolicyScope.USER, "saved", by)

    async def delete(self, name: str, by: str) -> str:
        """Delete a profile of the user's own; returns its file. Raises ``NotFound``, or ``Denied`` as ``save`` does."""
        async with self._lock:
            file = await asyncio.to_thread(self._file_of, name)
            before = await asyncio.to_thread(_text_of, file)
            if before is None:
                raise _no_such(name)
            await self._record("deleted", name, file, before, None, by)
            await asyncio.to_thread(file.unlink, missing_ok=True)
            await asyncio.to_thread(self._library.reload)
        return str(file)

    def _file_of(self, name: str) -> Path:
        """Where the user's profile of that name is or would be. Raises ``Denied`` for what is not theirs, ``NotFound``
        for what is no name."""
        folder = self._library.user_dir
        if folder is None:
            raise Unavailable("There is no folder for your own profiles.", hint="Set policy.directory.")
        scope, source = self._library.origin(name)
        if scope is PolicyScope.MANAGED:
            raise Denied(f"The profile {name} belongs to this machine's administrator.")
        if scope is PolicyScope.PRESET:
            raise Denied(
                f"{name} is a preset; presets are protected.", hint="Save it under a name of your own."
            )
        if scope is PolicyScope.USER:
            return Path(source)
        if not re.fullmatch(PROFILE_NAME, name):  # a path, say: no profile is called so
            raise _no_such(name)
        return folder / f"{name}.yaml"

    def _own_file(self) -> tuple[Path, str | None, PolicyLayer | None]:
        """The user's file for this workspace: its place, text and rules (None: there is none yet)."""
        file = self._library.always_file
        if file is None:
            raise Unavailable("There is no folder for what you decide about this workspace.")
        text = _text_of(file)
        if text is None:
            return file, None, None
        try:
            return file, text, parse_layer(text, PolicyScope.ALWAYS, str(file))
        except Broken as error:
            where = f"{file}:{error.line}" if error.line else str(file)
            raise Conflict(
                f"{where}: {error.message}. Nothing was written.",
                hint="Correct or remove the file.",
                data={"file": str(file), "line": error.line},
            ) from error

    async def _put(
        self, file: Path, before: str | None, after: str, scope: PolicyScope, change: str, by: str
    ) -> PolicyLayer:
        """Check, record, write, put in force. The log is first: it may tell of a change that a crash prevented, and
        never misses one."""
        try:
            layer = await asyncio.to_thread(parse_layer, after, scope, str(file))
        except Broken as error:
            raise error.for_person("the profile") from error
        if len(after.encode()) > MAX_BYTES:
            raise LimitReached(f"The profile would have more than {MAX_BYTES:,} bytes; nothing was written.")
        await self._record(change, layer.profile.name, file, before, after, by)
        try:
            await asyncio.to_thread(_write, file, after)
        except OSError as error:
            await self._record("could not be written", layer.profile.name, file, before, before, by)
            raise Unavailable(
                f"{file} cannot be written: {error.strerror or error}.", hint="Nothing was changed."
            ) from error
        await asyncio.to_thread(self._library.reload)
        return layer

    async def _record(
        self, change: str, name: str, file: Path, before: str | None, after: str | None, by: str
    ) -> None:
        payload: JsonObject = {
            "change": change,
            "name": name,
            "file": str(file),
            "before": before,
            "after": after,
        }
        await self._store.append(
            EventDraft(stream="workspace", type=EventType.POLICY_CHANGED, payload=payload, actor=by)
        )


def _no_such(name: str) -> NotFound:
    return NotFound(f"You have no policy profile {name[:80]!r}.", hint="`codeforge policy list` shows all.")


def _text_of(file: Path) -> str | None:
    try:
        with file.open("rb") as opened:
            return opened.read(MAX_BYTES + 1).decode("utf-8-sig", "replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Unavailable(f"{file} cannot be read: {error.strerror or error}.") from error


def _write(file: Path, text: str) -> None:
    """A link is followed, not replaced."""
    replace_private(Path(os.path.realpath(file)), text.encode())
