"""The models of the MCP SDK, told to be built at their first use; imported before the rest of the SDK.

It has one for every message of every protocol version, hundreds, and builds them when it is imported: an eighth of
what a daemon does up to the first answer of a tool. A session uses ten.
"""

from __future__ import annotations

from mcp_types._wire_base import WireModel

WireModel.model_config["defer_build"] = True
