"""Settings: one typed object from six layers, problems with file and line, hot reload, the folders."""

from __future__ import annotations

from codeforge_ls.config.layers import ConfigProblem, Severity
from codeforge_ls.config.load import LoadedSettings, load_settings, parse_overrides
from codeforge_ls.config.place import (
    config_files,
    managed_policies_dir,
    policies_dir,
    state_dir,
    user_config_dir,
    workspace_config_dir,
    workspace_id,
)
from codeforge_ls.config.reload import ConfigStore, EditorOptions, ReloadOutcome, immutable_fields
from codeforge_ls.config.settings import (
    ApprovalSettings,
    DaemonSettings,
    EmbeddingSettings,
    EventSettings,
    IndexSettings,
    LlmSettings,
    LogLevel,
    LogSettings,
    LspSettings,
    McpSettings,
    PolicySettings,
    RateLimitSettings,
    RunSettings,
    SandboxBackend,
    SandboxSettings,
    Settings,
    Switch,
    WatchMode,
    worker_environment,
)
from codeforge_ls.config.trusted_file import FileTrust

__all__ = [
    "ApprovalSettings",
    "ConfigProblem",
    "ConfigStore",
    "DaemonSettings",
    "EditorOptions",
    "EmbeddingSettings",
    "EventSettings",
    "FileTrust",
    "IndexSettings",
    "LlmSettings",
    "LoadedSettings",
    "LogLevel",
    "LogSettings",
    "LspSettings",
    "McpSettings",
    "PolicySettings",
    "RateLimitSettings",
    "ReloadOutcome",
    "RunSettings",
    "SandboxBackend",
    "SandboxSettings",
    "Settings",
    "Severity",
    "Switch",
    "WatchMode",
    "config_files",
    "immutable_fields",
    "load_settings",
    "managed_policies_dir",
    "parse_overrides",
    "policies_dir",
    "state_dir",
    "user_config_dir",
    "worker_environment",
    "workspace_config_dir",
    "workspace_id",
]
