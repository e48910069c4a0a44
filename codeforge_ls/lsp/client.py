"""What the editor said about itself in ``initialize``: name, folder, options, and what it can do."""

from __future__ import annotations

from dataclasses import dataclass

from lsprotocol import types
from pygls.capabilities import get_capability

from codeforge_ls.lsp.documents import Encoding, sanitised
from codeforge_ls.lsp.places import file_path
from codeforge_ls.model.base import JsonObject, JsonValue

# What another language server does better where there is one: offered only when asked for.
BESIDE_OTHERS = {
    types.TEXT_DOCUMENT_DOCUMENT_SYMBOL: "document_symbol",
    types.TEXT_DOCUMENT_DEFINITION: "definition",
    types.TEXT_DOCUMENT_REFERENCES: "references",
    types.TEXT_DOCUMENT_PREPARE_CALL_HIERARCHY: "call_hierarchy",
}
OWN_OPTIONS = frozenset({"symbols", "approvals", "deltas", "save"})


@dataclass(frozen=True)
class Client:
    """The client of one session. ``options`` are ours, from ``initializationOptions.codeforge`` or, where a
    client sends a flat object, the whole of it; ``settings`` is the rest, in the form of the settings file.

    ``edits_versions``: takes ``documentChanges``, which Neovim says only by its resource operations: those have no
    other form. ``registers``: the methods of ``BESIDE_OTHERS`` that it lets a server offer late."""

    name: str
    version: str
    folders: tuple[str, ...]
    encoding: Encoding
    options: JsonObject
    settings: JsonObject
    edits_versions: bool
    annotates_edits: bool
    shows_progress: bool
    registers_watchers: bool
    relative_watchers: bool
    registers: frozenset[str]
    nests_outline: bool
    gives_configuration: bool
    wants_server_status: bool

    def own_setting(self, name: str) -> str:
        """A setting of the section ``lsp`` that the editor gave for itself, empty without one."""
        section = self.settings.get("lsp")
        value = section.get(name) if isinstance(section, dict) else None
        return value if isinstance(value, str) else ""

    @property
    def symbols(self) -> str:
        """What the editor wants of the symbol providers: ``on``, ``off``, or another word or none for auto."""
        wanted = self.options.get("symbols", self.own_setting("symbols"))
        if isinstance(wanted, bool):
            return "on" if wanted else "off"
        return wanted if isinstance(wanted, str) else ""

    @classmethod
    def of(cls, params: types.InitializeParams) -> Client:
        """Read what the client sent. Unknown or odd values count as absent."""

        def can(capability: str) -> bool:
            return bool(get_capability(params.capabilities, capability, False))

        options, settings = split_options(params.initialization_options)
        experimental = params.capabilities.experimental
        extras = experimental if isinstance(experimental, dict) else {}
        own = extras.get("codeforge")
        info = params.client_info
        edit = "workspace.workspace_edit"
        return cls(
            name=sanitised(info.name if info else "")[:100] or "editor",
            version=sanitised((info.version if info else None) or "")[:100],
            folders=_folders(params),
            encoding=Encoding.UTF16,  # as the index counts; every client has to understand it
            options={**(own if isinstance(own, dict) else {}), **options},
            settings=settings,
            edits_versions=can("workspace.apply_edit")
            and (can(f"{edit}.document_changes") or can(f"{edit}.resource_operations")),
            annotates_edits=get_capability(params.capabilities, f"{edit}.change_annotation_support")
            is not None,
            shows_progress=can("window.work_done_progress"),
            registers_watchers=can("workspace.did_change_watched_files.dynamic_registration"),
            relative_watchers=can("workspace.did_change_watched_files.relative_pattern_support"),
            registers=frozenset(
                method
                for method, capability in BESIDE_OTHERS.items()
                if can(f"text_document.{capability}.dynamic_registration")
            ),
            nests_outline=can("text_document.document_symbol.hierarchical_document_symbol_support"),
            gives_configuration=can("workspace.configuration"),
            wants_server_status=bool(extras.get("serverStatusNotification")),
        )


def split_options(raw: object) -> tuple[JsonObject, JsonObject]:
    """Our session options and the settings in an options object, which may be wrapped in ``codeforge``.

    A section of the settings is an object and an option is not: ``approvals`` is the name of both."""
    whole: dict[str, JsonValue] = raw if isinstance(raw, dict) else {}
    inner = whole.get("codeforge")
    if isinstance(inner, dict):
        whole = inner
    options: JsonObject = {
        name: value for name, value in whole.items() if name in OWN_OPTIONS and not isinstance(value, dict)
    }
    return options, {name: value for name, value in whole.items() if name not in options}


def _folders(params: types.InitializeParams) -> tuple[str, ...]:
    uris = [folder.uri for folder in params.workspace_folders or ()] or [params.root_uri or ""]
    paths = [path for uri in uris if (path := file_path(uri))]
    return tuple(paths) or ((params.root_path,) if params.root_path else ())
