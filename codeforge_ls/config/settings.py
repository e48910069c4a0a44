"""The settings as one typed, frozen object; every field carries its own documentation, bounds and default."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic.config import JsonDict
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from codeforge_ls.model.limits import ExecMode, NetworkMode

ENV_PREFIX = "CODEFORGE_"


class Mark(StrEnum):
    """What is special about a field, beside its type."""

    TRUSTED = (
        "trusted"  # no repository decides it whose file no person trusts, nor an editor (``config.trust``)
    )
    IMMUTABLE = "immutable"  # read once when the workspace opens; a change needs a restart


class Switch(StrEnum):
    """auto decides from the circumstances."""

    AUTO = "auto"
    ON = "on"
    OFF = "off"


class WatchMode(StrEnum):
    """Who watches the files of the workspace."""

    AUTO = "auto"
    CLIENT = "client"
    SERVER = "server"


class SandboxBackend(StrEnum):
    """What commands are isolated with."""

    AUTO = "auto"
    BUBBLEWRAP = "bubblewrap"
    LANDLOCK = "landlock"
    DOCKER = "docker"
    NONE = "none"


class LogLevel(StrEnum):
    """The least severe record that is written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Section(BaseModel):
    """A part of the settings. Unknown fields, infinities and NaN are refused; nothing changes once loaded."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _marked(*marks: Mark) -> JsonDict:
    return {"marks": [mark.value for mark in marks]}


TRUSTED = _marked(Mark.TRUSTED)
IMMUTABLE = _marked(Mark.IMMUTABLE)
TRUSTED_IMMUTABLE = _marked(Mark.TRUSTED, Mark.IMMUTABLE)


class LlmSettings(Section):
    """The language model."""

    model: str = Field(default="", max_length=200, json_schema_extra=TRUSTED)
    """Any litellm model name, such as openai/gpt-4.1. Empty: no model is set and runs say how to set one."""
    api_base: str | None = Field(default=None, max_length=2000, json_schema_extra=TRUSTED)
    """URL of an OpenAI-compatible server. Null: the provider's own address."""
    temperature: float | None = Field(default=None, ge=0, le=2, json_schema_extra=TRUSTED)
    """Null: the provider's default."""
    max_output_tokens: int | None = Field(default=None, ge=1, le=1_000_000, json_schema_extra=TRUSTED)
    """Tokens of one answer. Null: the provider's default."""
    first_token_timeout: float = Field(default=60, gt=0, le=3600, json_schema_extra=TRUSTED)
    """Seconds to wait for the first token of an answer."""
    idle_timeout: float = Field(default=60, gt=0, le=3600, json_schema_extra=TRUSTED)
    """Seconds to wait between two tokens."""
    total_timeout: float = Field(default=600, gt=0, le=86_400, json_schema_extra=TRUSTED)
    """Seconds one answer may take in all."""
    retries: int = Field(default=3, ge=0, le=10, json_schema_extra=TRUSTED)
    """How often a model call is tried again after an error that may pass."""

    @field_validator("api_base")
    @classmethod
    def _is_web_address(cls, value: str | None) -> str | None:
        return _web_address(value)


def _web_address(value: str | None) -> str | None:
    if value is not None and not value.startswith(("http://", "https://")):
        raise ValueError("must begin with http:// or https://")
    return value


class PolicySettings(Section):
    """Which policy profile holds, and where more of them are."""

    default: str = Field(default="", pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]{0,63})?$")
    """Profile of runs that name none. Empty: chosen by whether a person's editor is attached. A workspace's
    file and an editor's options may only choose a profile that is not looser."""
    directory: str = Field(default="", max_length=4000, json_schema_extra=TRUSTED_IMMUTABLE)
    """Folder of your own profiles. Empty: codeforge/policies in the user configuration folder."""


class ApprovalSettings(Section):
    """Questions to a person."""

    timeout_seconds: float = Field(default=60, ge=1, le=3600)
    """Seconds until an unanswered question counts as denied."""


class IndexSettings(Section):
    """What is indexed, and how much."""

    max_file_bytes: int = Field(default=1 << 20, ge=1024, le=64 << 20)
    """Larger files are skipped, counted and listed."""
    max_line: int = Field(default=20_000, ge=200, le=1_000_000)
    """Files with a longer line (characters) are skipped: minified or generated."""
    max_files: int = Field(default=100_000, ge=1, le=2_000_000)
    """Files beyond this count are skipped."""
    exclude: tuple[str, ...] = ()
    """Patterns as in .gitignore, from the root: what they match is not indexed, tracked or not. In the environment
    and in --set with commas between them."""
    parse_timeout_seconds: float = Field(default=2.0, ge=0.1, le=60)
    """Seconds one file may take; then its parser is replaced and the file quarantined."""
    parsers: int = Field(default=2, ge=1, le=64, json_schema_extra=IMMUTABLE)
    """Parser processes."""

    @field_validator("exclude", mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        if not isinstance(value, str) or value.startswith("["):
            return json.loads(value) if isinstance(value, str) else value
        return [pattern.strip() for pattern in value.split(",") if pattern.strip()]


class SearchSettings(Section):
    """How what the legs of search find is put together, and how far a walk over the code graph goes."""

    rrf_k: int = Field(default=60, ge=1, le=1000)
    """The constant of reciprocal rank fusion: the larger, the less the first places count."""
    vector_weight: float = Field(default=0.4, ge=0, le=1)
    """Share of the vectors in the fusion for a sentence; the words have the rest."""
    symbol_vector_weight: float = Field(default=0.3, ge=0, le=1)
    """The same for a query that is one name."""
    walk_hops: int = Field(default=2, ge=1, le=4)
    """Hops of a walk that names no number."""
    walk_nodes: int = Field(default=200, ge=1, le=2000)
    """Nodes that a walk visits at most, unless it names a number."""


class EmbeddingSettings(Section):
    """An embedding model in place of the word vectors. It is sent the code that a foreign agent may read."""

    model: str = Field(default="", max_length=200, json_schema_extra=TRUSTED_IMMUTABLE)
    """Any litellm embedding model, such as openai/text-embedding-3-small. Empty: the word vectors that come along."""
    api_base: str | None = Field(default=None, max_length=2000, json_schema_extra=TRUSTED_IMMUTABLE)
    """URL of an OpenAI-compatible server. Null: the provider's own address."""
    batch: int = Field(default=64, ge=1, le=256, json_schema_extra=IMMUTABLE)
    """Chunks in one call."""
    timeout_seconds: float = Field(default=60, gt=0, le=600, json_schema_extra=IMMUTABLE)
    """Seconds one call may take."""
    query_timeout_seconds: float = Field(default=2, gt=0, le=60, json_schema_extra=IMMUTABLE)
    """Seconds a search waits for the vector of its query; then the word vectors answer."""

    @field_validator("api_base")
    @classmethod
    def _is_web_address(cls, value: str | None) -> str | None:
        return _web_address(value)


class DaemonSettings(Section):
    """The background process of the workspace."""

    idle_seconds: float = Field(default=600, ge=1, le=604_800)
    """Seconds without a client and without a run until it leaves."""


class McpSettings(Section):
    """Agents that call over HTTP instead of through the pipe. `codeforge mcp http` says where, and how they get in."""

    http: bool = Field(default=False, json_schema_extra=TRUSTED)
    """Whether the daemon serves MCP on 127.0.0.1, to whoever of your own programs has the token."""
    port: int = Field(default=0, ge=0, le=65_535, json_schema_extra=TRUSTED)
    """The port. 0: one chosen for the workspace, the same each time unless it is taken."""
    session_seconds: float = Field(default=1800, ge=1, le=86_400, json_schema_extra=TRUSTED)
    """Seconds without a call until a client counts as gone, also when its program still runs."""


class EventSettings(Section):
    """The log of everything that was done."""

    retention_days: float = Field(default=90, ge=1, le=36_500, json_schema_extra=TRUSTED)
    """Whole streams whose last event is older are exported and dropped by `events.drop`."""


class LogSettings(Section):
    """The log for whoever looks for a fault."""

    level: LogLevel = Field(default=LogLevel.INFO, json_schema_extra=TRUSTED)
    """The least severe record that is written."""


class LspSettings(Section):
    """What the language server offers."""

    symbols: Switch = Field(default=Switch.AUTO, json_schema_extra=IMMUTABLE)
    """Symbol providers. auto: off where another language server serves the file."""
    watch: WatchMode = Field(default=WatchMode.AUTO, json_schema_extra=IMMUTABLE)
    """Who watches files. auto: the editor if it can, else the server."""


class SandboxSettings(Section):
    """How commands are isolated."""

    backend: SandboxBackend = Field(default=SandboxBackend.AUTO, json_schema_extra=TRUSTED_IMMUTABLE)
    """auto: bubblewrap where it works, else Landlock with seccomp, else a person is asked before each command
    (`codeforge doctor` says which, and why). docker: containers of sandbox.engine. none: no isolation at all."""
    mode: ExecMode = Field(default=ExecMode.MOUNT, json_schema_extra=TRUSTED)
    """Of runs that name none. mount: commands work on the real tree. sandbox: the same, but never without isolation
    and within 512 MiB, 1 CPU and 100 processes. hybrid: they write a layer, merged when a command has succeeded."""
    network: NetworkMode = Field(default=NetworkMode.NONE, json_schema_extra=TRUSTED)
    """Whether commands may reach the network where the policy profile does not say."""
    memory_mb: int = Field(default=0, ge=0, le=1 << 20, json_schema_extra=TRUSTED)
    """MiB of memory for a command with all its processes. 0: 2048. A profile may raise this and the following
    limits to four times what is set here."""
    cpu_quota: int = Field(default=0, ge=0, le=1_000_000, json_schema_extra=TRUSTED)
    """Processor time, 1000 is one CPU. 0: 2000."""
    pids_limit: int = Field(default=0, ge=0, le=100_000, json_schema_extra=TRUSTED)
    """Processes and threads of a command at the same time. 0: 512."""
    storage_gb: int = Field(default=0, ge=0, le=100_000, json_schema_extra=TRUSTED)
    """GiB that a file may have which a command writes. 0: 10."""
    wall_seconds: float = Field(default=0, ge=0, le=86_400, json_schema_extra=TRUSTED)
    """Seconds that a command may take, whatever time-out it names. 0: 3600."""
    output_mb: int = Field(default=0, ge=0, le=100_000, json_schema_extra=TRUSTED)
    """MiB that a command may print before it is ended. 0: 64."""
    engine: str = Field(default="docker", max_length=1000, json_schema_extra=TRUSTED_IMMUTABLE)
    """Program of the container engine: docker, podman, or a path; it must take docker's command line."""
    image: str = Field(default="ubuntu:22.04", max_length=1000, json_schema_extra=TRUSTED_IMMUTABLE)
    """Image of the containers. It must be there already: nothing is downloaded."""


class RunSettings(Section):
    """Limits of runs beside those of the policy profile."""

    max_result_bytes: int = Field(default=30_000, ge=1000, le=1_000_000)
    """Bytes of one tool result that the model is shown; the middle of longer ones is cut out."""
    command_timeout_seconds: float = Field(default=120, ge=1, le=86_400)
    """Seconds a command may take that names no time-out itself."""
    max_concurrent: int = Field(default=4, ge=1, le=64)
    """Runs at work at the same time; more wait."""


class RateLimitSettings(Section):
    """How often one client may call: an editor, an agent or the terminal, over all its connections."""

    per_second: float = Field(default=10, ge=0, le=100_000, json_schema_extra=TRUSTED)
    """Calls a second that change something or start work, in the long run; one that only looks counts a tenth.
    0: no limit."""
    burst: int = Field(default=100, ge=1, le=1_000_000, json_schema_extra=TRUSTED)
    """Such calls at once, after a pause."""


class Settings(BaseSettings):
    """All settings. ``Settings()`` without values reads the environment only, as workers do (row CFG-4)."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="_",
        env_nested_max_split=1,
        env_ignore_empty=True,
    )

    llm: LlmSettings = LlmSettings()
    policy: PolicySettings = PolicySettings()
    approvals: ApprovalSettings = ApprovalSettings()
    index: IndexSettings = IndexSettings()
    search: SearchSettings = SearchSettings()
    embedding: EmbeddingSettings = EmbeddingSettings()
    daemon: DaemonSettings = DaemonSettings()
    mcp: McpSettings = McpSettings()
    events: EventSettings = EventSettings()
    log: LogSettings = LogSettings()
    lsp: LspSettings = LspSettings()
    sandbox: SandboxSettings = SandboxSettings()
    runs: RunSettings = RunSettings()
    rate_limit: RateLimitSettings = RateLimitSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the signature is pydantic-settings'
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - .env files belong to the user's program
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - secrets stay in the environment
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Values that are given are complete (``load_settings`` made them); else the environment speaks."""
        return (init_settings,) if init_settings() else (env_settings,)


@dataclass(frozen=True)
class SettingField:
    """One setting: where it is, and what is known about it."""

    section: str
    name: str
    info: FieldInfo

    @property
    def path(self) -> str:
        """The dotted name, such as ``llm.model``."""
        return f"{self.section}.{self.name}"

    @property
    def env(self) -> str:
        """The environment variable, such as ``CODEFORGE_LLM_MODEL``."""
        return f"{ENV_PREFIX}{self.section}_{self.name}".upper()

    def has(self, mark: Mark) -> bool:
        """Whether the field is trusted-only or immutable."""
        extra = self.info.json_schema_extra
        marks = extra.get("marks", []) if isinstance(extra, dict) else []
        return isinstance(marks, list) and mark.value in marks


def section_models() -> dict[str, type[Section]]:
    """The sections by name, in the order of the example file."""
    found: dict[str, type[Section]] = {}
    for name, info in Settings.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, Section):
            found[name] = info.annotation
    return found


def _fields() -> Iterator[SettingField]:
    for section, model in section_models().items():
        for name, info in model.model_fields.items():
            yield SettingField(section, name, info)


FIELDS: Mapping[str, SettingField] = {field.path: field for field in _fields()}


def worker_environment(settings: Settings, base: Mapping[str, str]) -> dict[str, str]:
    """``base`` with exactly these settings in it, for a worker that calls ``Settings()``.

    Settings names that ``base`` carried are removed first, so that the worker sees what the daemon decided.
    """
    prefixes = tuple(f"{ENV_PREFIX}{section}_".upper() for section in section_models())
    env = {name: value for name, value in base.items() if not name.upper().startswith(prefixes)}
    values = settings.model_dump(mode="json")
    for field in FIELDS.values():
        value = values[field.section][field.name]
        if value is not None and value != "":
            env[field.env] = json.dumps(value) if isinstance(value, list) else str(value)
    return env
