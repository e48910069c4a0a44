"""The JSON schema of a policy file, for editors that check and complete YAML.

``python -m codeforge_ls.policy.schema`` prints it as it lies in the VS Code extension.
"""

from __future__ import annotations

import json
import sys

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


def rendered_schema() -> str:
    """The schema as text, the same each time."""
    return json.dumps(policy_schema(), indent=2, sort_keys=True) + "\n"


if __name__ == "__main__":
    sys.stdout.write(rendered_schema())
