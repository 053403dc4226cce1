"""The YAML of settings: PyYAML without its surprises, and text that every reader of YAML understands alike."""

from __future__ import annotations

import re
from typing import Any, ClassVar

import yaml

_WHOLE, _NUMBER, _NONE, _MERGE = (f"tag:yaml.org,2002:{kind}" for kind in ("int", "float", "null", "merge"))
_READ_AS = (
    (_WHOLE, r"[-+]?(0|[1-9][0-9_]*|0x[0-9a-fA-F]+|0b[01]+)$", "-+0123456789"),
    (_NUMBER, r"[-+]?([0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?$", "-+.0123456789"),
    (_NUMBER, r"([-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$", "-+."),
    (_NONE, r"(none|None)$", "nN"),
)
"""Unquoted words that are numbers or null, beside YAML's own null: kind, pattern, and the characters that may begin the word."""


class _Loader(yaml.SafeLoader):
    """Reads 1e-3 as a number, 010 and 1:30 as strings, and refuses a name that stands twice."""

    yaml_implicit_resolvers: ClassVar = {
        first: [(tag, pattern) for tag, pattern in known if tag not in (_WHOLE, _NUMBER)]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        """Composes a mapping, and refuses keys that are no single values or stand twice."""
        node = super().compose_mapping_node(anchor)
        first: set[Any] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.YAMLError(
                    f"the name of a setting must be a string; got a {key.id}, in line {key.start_mark.line + 1}"
                )
            name = "<<" if key.tag == _MERGE else self.construct_object(key)
            if name in first:
                raise yaml.YAMLError(f"{name!r} stands twice, again in line {key.start_mark.line + 1}")
            first.add(name)
        return node

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Replaces `<<` by the groups that it names. A group's own settings go first, then the first source with a setting."""
        self._flatten(node, ())

    def _flatten(self, node: yaml.MappingNode, within: tuple[yaml.MappingNode, ...]) -> None:
        own = [(key, value) for key, value in node.value if key.tag != _MERGE]
        names = {key.value for key, _ in own}
        for key, value in node.value:
            if key.tag == _MERGE:
                for source in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                    if not isinstance(source, yaml.MappingNode):
                        raise yaml.YAMLError(f"<< must name groups of settings, in line {key.start_mark.line + 1}")
                    if source in (node, *within):
                        raise yaml.YAMLError(f"<< names the group that it stands in, in line {key.start_mark.line + 1}")
                    self._flatten(source, (node, *within))
                    taken = [pair for pair in source.value if pair[0].value not in names]
                    names |= {name.value for name, _ in taken}
                    own += taken
        node.value = own


class _Dumper(yaml.SafeDumper):
    """Quotes every string that `_Loader` or another reader of YAML would take for something else."""


for _tag, _pattern, _first in _READ_AS:
    for _kind in (_Loader, _Dumper):
        _kind.add_implicit_resolver(_tag, re.compile(_pattern), list(_first))


def read_yaml(text: str) -> Any:
    """Returns the plain values of a YAML text.

    Raises:
        yaml.YAMLError, ValueError, RecursionError: for a text that is no YAML, or nests too deep.
    """
    return yaml.load(text, _Loader)


def settings_file(values: dict[str, Any], *, ascii_only: bool = False) -> bytes:
    """Returns nested settings as the content of a file that `read_settings` reads back.

    Args:
        values: nested plain values, as `dataclasses.asdict` gives them.
        ascii_only: write other characters as escapes, for an output of unknown encoding.
    """
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=not ascii_only).encode()
