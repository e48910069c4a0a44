"""The JSON schema of a policy file, for editors that check and complete YAML."""

from __future__ import annotations

from codeforge_ls.model.base import JsonObject
from codeforge_ls.model.policy import PolicyProfile

ID = "urn:codeforge:schema:policy"


def policy_schema() -> JsonObject:
    """JSON Schema (2020-12) of ``PolicyProfile``; a file that it accepts may still fail its own examples."""
    schema: JsonObject = PolicyProfile.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["$id"] = ID
    schema["title"] = "CodeForge policy profile"
    return schema
