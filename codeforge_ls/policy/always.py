"""What a person allows for good: narrow rules in their own policy file for one workspace, which lies outside the tree.

A rule covers exactly what was asked: those files, or that command line word for word. It answers questions of the
user's, the project's and the preset's layers; what is denied, protected, or asked by the administrator stays so.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from codeforge_ls.model.policy import Decision, PermissionRule, PolicyLayer, ToolSpecifier
from codeforge_ls.policy.commands import Doubt, read_line
from codeforge_ls.policy.loader import MAX_ENTRIES, MAX_TEXT

if TYPE_CHECKING:
    from ruamel.yaml import YAML
    from ruamel.yaml.comments import CommentedMap

NAME = "this-workspace"
_NEW = """\
# What you allowed for good in this workspace. CodeForge adds a rule for each answer "always";
# remove one, and it is asked for again.
"""
_WILD = re.compile(r"([*?\[])")


def narrow_rule(
    tool: str, paths: Sequence[str], command: str | None, reason: str = ""
) -> PermissionRule | None:
    """The narrowest rule that would have allowed this; None where none is narrow enough to offer "always".

    Not for a command that cannot be read to its end, and not for a tool that names neither path nor command, such as
    ``Restore``: its rule would hold for everything.
    """
    if command is not None:
        text = command.strip()
        line = read_line(text)
        if line.empty or line.doubt is Doubt.UNREADABLE or len(text) > MAX_TEXT or not text.isprintable():
            return None
        return PermissionRule(
            specifier=ToolSpecifier(tool=tool),
            decision=Decision.ALLOW,
            command_exact=(text,),
            reason=reason,
        )
    globs = tuple(dict.fromkeys(_literal(path) for path in paths))
    if not globs or len(globs) > MAX_ENTRIES or any(not _can_be_named(glob) for glob in globs):
        return None
    return PermissionRule(
        specifier=ToolSpecifier(tool=tool), decision=Decision.ALLOW, path_allow=globs, reason=reason
    )


def what_can_ask(layer: PolicyLayer) -> str:
    """All of that file that can make somebody ask or refuse, as text; empty for one that only allows.

    Rules at its end that allow can do neither: they answer what others ask. One that stands before a rule that does not
    allow hides it, and is no such rule.
    """
    rules = list(layer.profile.rules)
    while rules and rules[-1].decision is Decision.ALLOW:
        rules.pop()
    bare = layer.profile.model_copy(update={"rules": tuple(rules)})
    text = bare.model_dump_json(exclude={"name", "description", "mode"}, exclude_defaults=True)
    return "" if text == "{}" else text


def with_rule(text: str | None, rule: PermissionRule, root: Path) -> str:
    """The text of that file (None: there is none yet) with one rule more at its end; comments and order stay."""
    from ruamel.yaml.scalarstring import DoubleQuotedScalarString as Quoted

    yaml = _yaml()
    document: CommentedMap = yaml.load(text or f"{_NEW}name: {NAME}\n")
    if text is None:
        document["description"] = Quoted(ascii(str(root))[1:-1][:1000])
    entry: dict[str, object] = {"specifier": {"tool": rule.specifier.tool}, "decision": rule.decision.value}
    for key, values in (("path_allow", rule.path_allow), ("command_exact", rule.command_exact)):
        if values:
            entry[key] = [Quoted(value) for value in values]
    entry["reason"] = Quoted(rule.reason)
    if not document.get("rules"):
        document["rules"] = []
    document["rules"].append(entry)
    return _written(yaml, document)


def without_rule(text: str, index: int) -> str:
    """The text without the rule of that index."""
    yaml = _yaml()
    document: CommentedMap = yaml.load(text)
    del document["rules"][index]
    return _written(yaml, document)


def _yaml() -> YAML:
    from ruamel.yaml import YAML

    yaml = YAML()  # round trip
    yaml.width = 4096  # a command stays on its line
    yaml.preserve_quotes = True
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml


def _written(yaml: YAML, document: CommentedMap) -> str:
    out = io.StringIO()
    yaml.dump(document, out)
    return out.getvalue()


def _literal(path: str) -> str:
    """A glob that matches this path and no other."""
    return _WILD.sub(r"[\1]", path)


def _can_be_named(glob: str) -> bool:
    return glob not in ("", ".") and glob.isprintable() and len(glob) <= MAX_TEXT and not glob.startswith("/")
