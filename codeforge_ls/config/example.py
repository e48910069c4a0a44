"""The example file ``codeforge.yaml.example``, which ``python -m codeforge_ls.config.example`` prints."""

from __future__ import annotations

import ast
import enum
import inspect
import itertools
import json
import sys
import textwrap

from codeforge_ls.config import settings
from codeforge_ls.config.settings import FIELDS, Mark, SettingField, Settings, section_models
from codeforge_ls.config.trust import is_the_persons_alone

HEAD = """\
# CodeForge settings: every one, with its default. Generated from the model; do not edit by hand.
#
# Copy what you change to $XDG_CONFIG_HOME/codeforge/config.yaml (yours) or .codeforge/config.yaml (the
# workspace's). Lowest to highest: defaults, your file, the workspace's file, editor options, environment,
# --set section.field=value. Editor options hold while that editor is attached.
# "yours only": a workspace's file may set it only when you trust that file (`codeforge trust`), and an editor only
# what concerns the model. "yours alone": no workspace's file and no editor sets it.
# "restart": takes effect when the workspace opens again; of these an editor sets only lsp, for itself.
"""


def render_example() -> str:
    """The whole file as text; loading it gives the defaults."""
    lines = [HEAD]
    documentation = documented()
    defaults = Settings.model_construct().model_dump(mode="json")
    for section, model in section_models().items():
        lines += [f"# {(model.__doc__ or '').splitlines()[0]}", f"{section}:"]
        for field in (field for field in FIELDS.values() if field.section == section):
            text = documentation[field.path]
            lines += [f"  # {line}" for line in textwrap.wrap(text, 100)]
            lines.append(f"  # {'; '.join(_facts(field))}")
            lines.append(f"  {field.name}: {json.dumps(defaults[section][field.name])}")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def documented() -> dict[str, str]:
    """What stands under each field in the source of the settings, on one line; by dotted name."""
    sections = {model.__name__: name for name, model in section_models().items()}
    found: dict[str, str] = {}
    for node in ast.parse(inspect.getsource(settings)).body:
        if isinstance(node, ast.ClassDef) and node.name in sections:
            for field, below in itertools.pairwise(node.body):
                match field, below:
                    case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(
                        value=ast.Constant(value=str(text))
                    ):
                        found[f"{sections[node.name]}.{name}"] = " ".join(text.split())
    return found


def _facts(field: SettingField) -> list[str]:
    facts = [field.env]
    kind = field.info.annotation
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        facts.append("one of " + ", ".join(str(member.value) for member in kind))
    for bound, sign in (("gt", ">"), ("ge", ">="), ("le", "<=")):
        facts += [f"{sign} {getattr(item, bound)}" for item in field.info.metadata if hasattr(item, bound)]
    if field.has(Mark.TRUSTED):
        facts.append("yours alone" if is_the_persons_alone(field.path) else "yours only")
    facts += ["restart"] if field.has(Mark.IMMUTABLE) else []
    return facts


if __name__ == "__main__":
    sys.stdout.write(render_example())
