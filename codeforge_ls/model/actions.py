"""Actions: who wants to do what, what it would touch, and what came of it."""

from __future__ import annotations

import hashlib
import json
from enum import StrEnum

from pydantic import Field

from codeforge_ls.model.base import Frozen, JsonObject, KnownJson
from codeforge_ls.model.limits import Execution
from codeforge_ls.model.policy import PolicyDecision


class ActorKind(StrEnum):
    """Through which door the wish came in."""

    AGENT = "agent"
    EDITOR = "editor"
    MCP = "mcp"
    CLI = "cli"
    SYSTEM = "system"


class Actor(Frozen):
    """Who asks. ``name`` is what the client claims to be, for an agent the first line of its task; ``session`` is our
    id of the connection."""

    kind: ActorKind
    name: str = ""
    session: str = ""
    run_id: str | None = None

    @property
    def label(self) -> str:
        """A short text for logs and prompts, such as ``mcp:claude-code`` or ``agent:run-01…``."""
        return f"{self.kind.value}:{self.run_id or self.name or self.session}"

    @property
    def client(self) -> str:
        """Who calls, whatever connection it came by: ``editor:neovim``, ``mcp:claude-code/2.1``, ``cli:terminal``."""
        return f"{self.kind.value}:{self.name}"

    @property
    def is_person(self) -> bool:
        """Whether a person gave this order directly (a command in an editor or a terminal)."""
        return self.kind in (ActorKind.EDITOR, ActorKind.CLI) and self.run_id is None


SYSTEM = Actor(kind=ActorKind.SYSTEM, name="codeforge")


class Tool(StrEnum):
    """The tools that can be asked for. The names are those that policies use."""

    READ = "Read"
    GLOB = "Glob"
    GREP = "Grep"
    SEARCH = "Search"
    REPO_MAP = "RepoMap"
    EDIT = "Edit"
    MULTI_EDIT = "MultiEdit"
    WRITE = "Write"
    BASH = "Bash"
    RESTORE = "Restore"


class Action(Frozen):
    """One wish to do something. ``call_id`` pairs it with the model's tool call, where there is one."""

    id: str
    actor: Actor
    tool: Tool
    arguments: JsonObject
    stream: str = Field(description="The event stream that records it: run:ID or session:ID")
    call_id: str | None = None
    execution: Execution | None = Field(default=None, description="How a command runs; None: as settings say")


class AccessKind(StrEnum):
    """What happens to a path."""

    READ = "read"
    WRITE = "write"
    DELETE = "delete"


class PathEffect(Frozen):
    """One path that an action touches.

    ``path`` is workspace-relative with forward slashes, lexically normal; ``real`` the absolute path it led to when
    the policy judged it; ``base_hash`` is the blake2b-128 hex digest of the bytes it was proposed against (None: the
    file did not exist, or it is only read).
    """

    path: str
    access: AccessKind
    real: str = ""
    base_hash: str | None = None


class Effects(Frozen):
    """What an action would read, write and run."""

    paths: tuple[PathEffect, ...] = ()
    command: str | None = None
    cwd: str = "."


class FileChange(Frozen):
    """What happened to one file: ``change`` is created, modified or deleted; hashes are blake2b-128 hex."""

    path: str
    change: str
    base_hash: str | None = None
    new_hash: str | None = None
    added: int = 0
    removed: int = 0


class Outcome(StrEnum):
    """How an action ended."""

    APPLIED = "applied"
    DENIED = "denied"
    CONFLICT = "conflict"
    FAILED = "failed"
    PENDING = "pending"


class Applied(Frozen):
    """The result of an action, the same for every surface.

    ``output`` is text for a model or a person; ``data`` the same facts for a program.
    """

    outcome: Outcome
    output: str = ""
    data: KnownJson = Field(default_factory=dict)
    decision: PolicyDecision | None = None
    approval_id: str | None = None
    checkpoint_id: str | None = None
    files: tuple[FileChange, ...] = ()


def content_hash(data: bytes) -> str:
    """blake2b-128 in hex: the identity of a file's bytes everywhere in CodeForge."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def action_hash(actor: Actor, tool: Tool, arguments: JsonObject, effects: Effects) -> str:
    """The identity of exactly this action against exactly these base contents: what an approval is bound to."""
    whole = {
        "actor": actor.model_dump(mode="json"),
        "tool": tool.value,
        "arguments": arguments,
        "effects": effects.model_dump(mode="json"),
    }
    text = json.dumps(whole, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=32).hexdigest()
