"""A spec from a YAML file, with the line of each mistake."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import YAMLError

from sweeps.errors import SpecError
from sweeps.spec.document import SweepSpec


def read_spec(path: str | Path, overrides: Mapping[str, Any] | None = None) -> SweepSpec:
    """The spec in a YAML file, `overrides` put over its top-level keys.

    Its name defaults to the file's. Raises SpecError with the file and the line.
    """
    file = Path(path)
    try:
        document = YAML(typ="rt").load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SpecError(
            "spec", f"there is no file {file}", "Check the path; `sweeps init` writes a first spec."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError("spec", f"{file} cannot be read: {error}", "Give a YAML file.") from None
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or "cannot be parsed"
        raise SpecError(
            "spec",
            f"this is not YAML: {problem}",
            "Check indentation, colons and quotes.",
            file=str(file),
            line=mark.line + 1 if mark else 0,
        ) from None
    if not isinstance(document, CommentedMap):
        raise SpecError("spec", "not a mapping of keys to values", "Begin with `trainable:`.", file=str(file))
    try:
        name = re.sub(r"[^A-Za-z0-9_.-]+", "-", file.stem).strip("-._") or "sweep"
        return SweepSpec.model_validate({"name": name, **plain(document), **(overrides or {})})
    except SpecError as error:
        raise error.at(str(file), line_of(document, error.path)) from None


def plain(node: Any) -> Any:
    """YAML's round-trip values as plain Python ones."""
    if isinstance(node, Mapping):
        return {str(key): plain(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [plain(value) for value in node]
    for kind in (bool, int, float, str):
        if isinstance(node, kind):
            return kind(node)
    return node


def line_of(document: CommentedMap, path: str) -> int:
    """The line (from 1) of the deepest part of a dotted path that stands in the file, 0 when none does."""
    node: Any = document
    line = 0
    rest = path.replace("[", ".").replace("]", "")
    while rest and isinstance(node, CommentedMap | CommentedSeq):
        names = list(node) if isinstance(node, CommentedMap) else [str(i) for i in range(len(node))]
        fitting = [n for n in map(str, names) if rest == n or rest.startswith(f"{n}.")]
        if not fitting:
            break
        name = max(fitting, key=len)  # parameters may be dotted themselves: sgd.momentum
        key: Any = int(name) if isinstance(node, CommentedSeq) else name
        if isinstance(node, CommentedSeq) or key in node.lc.data:  # a key merged in by `<<` has no place of its own
            line = (node.lc.item(key) if isinstance(node, CommentedSeq) else node.lc.key(key))[0] + 1
        node, rest = node[key], rest[len(name) + 1 :]
    return line
