"""Imports the MCP SDK without what serves or speaks HTTP: a session is a pair of streams, and an agent waits for it.

The SDK imports its client, its HTTP transports, OAuth and the libraries under them with its first line: a third of the
time and of the memory. While it is imported, placeholders stand for these modules; afterwards they are gone, and an
import finds the real ones. Where the SDK is there already, nothing is done.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import MutableSequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, NoReturn

LEFT_OUT = (
    "starlette",
    "sse_starlette",
    "uvicorn",
    "httpx2",
    "mcp.client",
    "mcp.server._streamable_http_modern",
    "mcp.server.auth.middleware",
    "mcp.server.auth.provider",
    "mcp.server.auth.routes",
    "mcp.server.sse",
    "mcp.server.stdio",
    "mcp.server.streamable_http",
    "mcp.server.streamable_http_manager",
    "mcp.server.transport_security",
    "mcp.shared._httpx_utils",
    "mcp.shared.auth",
)


class _LeftOut:
    """What a placeholder has under every name: fit for an annotation or a base, not for use."""

    def __new__(cls, *_given: object, **_named: object) -> NoReturn:
        raise RuntimeError(f"{cls.__module__}.{cls.__name__} is left out of a session; see {__name__}.")

    def __class_getitem__(cls, _of: object) -> type[_LeftOut]:
        return cls


class _Placeholder(ModuleType):
    """A module that was left out."""

    __path__: MutableSequence[str] = []  # noqa: RUF012 - as every package has it

    def __getattr__(self, name: str) -> type[_LeftOut]:
        if name.startswith("__"):
            raise AttributeError(name)
        made = type(name, (_LeftOut,), {"__module__": self.__name__})
        setattr(self, name, made)
        return made


class _Finder(MetaPathFinder, Loader):
    """Finds placeholders."""

    def find_spec(self, fullname: str, _path: object, _target: object = None) -> ModuleSpec | None:
        out = any(fullname == name or fullname.startswith(f"{name}.") for name in LEFT_OUT)
        return ModuleSpec(fullname, self, is_package=True) if out else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Placeholder(spec.name)

    def exec_module(self, module: Any) -> None:
        """There is nothing in it."""


def _import() -> None:
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    try:
        importlib.import_module("mcp.server.mcpserver")
    finally:
        sys.meta_path.remove(finder)
        for name in [name for name, module in sys.modules.items() if isinstance(module, _Placeholder)]:
            del sys.modules[name]


if "mcp" not in sys.modules:
    _import()
