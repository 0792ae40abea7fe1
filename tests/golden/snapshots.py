"""What other people's code, scripts and specs rely on, as text; `make golden` writes it anew.

surface.txt         the names that `sweeps` exports
cli.txt             the commands of `sweeps`, with their arguments, options and defaults
spec.schema.json    the JSON schema of a spec
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

FOLDER = Path(__file__).parent


def surface() -> str:
    """One exported name a line."""
    import sweeps

    return "".join(f"{name}\n" for name in sorted(sweeps.__all__))


def cli() -> str:
    """Every command with its one-line help and its parameters, read from click's objects and not from its layout."""
    from sweeps.cli import main

    return "\n".join("".join(f"{line}\n" for line in block) for block in commands(main, "sweeps"))


def commands(command: click.Command, name: str) -> Iterator[list[str]]:
    """A block of lines for a command, then those of its subcommands."""
    context = click.Context(command, info_name=name)
    yield [name, f"    {command.get_short_help_str(limit=200)}", *(f"  {parameter(p)}" for p in command.params)]
    if isinstance(command, click.Group):
        for sub in sorted(command.list_commands(context)):
            found = command.get_command(context, sub)
            if found and not found.hidden:
                yield from commands(found, f"{name} {sub}")


def parameter(param: click.Parameter) -> str:
    """`--trials integer = 24`, `SPEC path`, `--set text (many)`."""
    info: dict[str, Any] = param.to_info_dict()
    names = " / ".join([*info["opts"], *info["secondary_opts"]])
    kind = "|".join(map(str, info["type"].get("choices", ()))) or info["type"]["name"]
    flag = info.get("is_flag", False)
    default = "" if info["default"] is None or (flag and not info["default"]) else f" = {info['default']}"
    notes = [note for note in ("required", "multiple", "envvar") if info.get(note)]
    is_argument = isinstance(param, click.Argument)
    return (
        (names.upper() if is_argument else names)
        + ("" if flag else f" {kind}")
        + default
        + (f" ({', '.join(notes)})" if notes else "")
    )


def schema() -> str:
    """The schema with its keys sorted, so that the order of fields in the code does not matter."""
    from sweeps.spec import SweepSpec

    return json.dumps(SweepSpec.model_json_schema(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


SNAPSHOTS: dict[str, Callable[[], str]] = {"surface.txt": surface, "cli.txt": cli, "spec.schema.json": schema}


def differs(name: str) -> str:
    """What to say when a golden file and the code disagree; empty when they agree."""
    path = FOLDER / name
    if not path.exists():
        return f"{path.name} is missing. Run `make golden`, read it, commit it."
    if path.read_text(encoding="utf-8") == SNAPSHOTS[name]():
        return ""
    return f"{path.name} says something else than the code. If the change is meant, run `make golden`, read its diff."


if __name__ == "__main__":
    for name in sys.argv[1:] or SNAPSHOTS:
        (FOLDER / name).write_text(SNAPSHOTS[name](), encoding="utf-8")
        print(f"wrote {name}")
