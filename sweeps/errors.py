"""What can go wrong, as one tree. Every message says what, where, and what to do; the command line prints no more.

SweepsError
├── UsageError            the call or its input is at fault; nothing was started (exit code 2)
│   ├── SpecError         the spec: names the key, the file and the line
│   ├── PlanError         the plan can never fit the resources or the budget
│   ├── StorageError      a sweep or a storage path that is missing or cannot be used
│   └── TrackingError     MLflow cannot be reached or used as given
└── SweepFailed           the job began and ended without a result; its journal tells more (exit code 1)
    └── JournalError      the record cannot be read or written any more
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Any


class SweepsError(Exception):
    """Anything this package raises on purpose."""

    exit_code = 1


class UsageError(SweepsError):
    """Raised before anything is started or written, when the user can mend the call."""

    exit_code = 2


class SpecError(UsageError):
    """A key of the spec is missing, unknown, of the wrong type, or contradicts another one.

    `path` is the dotted key (`space.lr`), `problem` what is wrong with it, `mend` what to write instead.
    """

    def __init__(self, path: str, problem: str, mend: str, *, file: str = "", line: int = 0) -> None:
        self.path, self.problem, self.mend, self.file, self.line = path, problem, mend, file, line
        super().__init__(path, problem, mend)

    def __str__(self) -> str:
        where = f"in {self.file}, line {self.line}. " if self.line else f"in {self.file}. " if self.file else ""
        return f"{self.path}: {self.problem}\n  {where}{self.mend}"

    def at(self, file: str, line: int) -> SpecError:
        """The same error, with the place in the file it came from."""
        return SpecError(self.path, self.problem, self.mend, file=file, line=line)


class PlanError(UsageError):
    """Raised by planning when no slot, or not the whole sweep, can ever fit."""


class StorageError(UsageError):
    """Raised when a sweep is opened that is not there, or a storage path cannot be written."""


class TrackingError(UsageError):
    """Raised before the start when the tracking URI cannot be used."""


class SweepFailed(SweepsError):
    """Raised when a sweep halts: its first trials all fail alike, or no trial gave a result."""


class JournalError(SweepFailed):
    """Raised when the journal is damaged beyond its last line, or another driver has taken the sweep over."""


def in_words(found: Mapping[str, Any]) -> tuple[str, str]:
    """One of pydantic's error details as a problem and its mend, in the words of a spec instead of Python's types."""
    kind, given, context = found["type"], repr(found["input"]), found.get("ctx", {})
    family = kind.partition("_")[0]
    if kind == "literal_error":
        known = re.findall(r"'([^']+)'", context["expected"])
        near = difflib.get_close_matches(str(found["input"]), known, n=1)
        return f"{given} is not {context['expected']}", f"Did you mean {near[0]}?" if near else "Write one of these."
    if kind == "less_than":
        return f"{given} is not below {context['lt']:g}", "Lower it."
    if kind == "greater_than":
        return f"{given} is not above {context['gt']:g}", "Raise it."
    if kind == "greater_than_equal":
        return f"{given} is below {context['ge']:g}", "Raise it."
    if kind == "less_than_equal":
        return f"{given} is above {context['le']:g}", "Lower it."
    if kind == "string_pattern_mismatch":
        return f"{given} has characters that a name may not have", f"Match {context['pattern']}."
    if kind == "string_too_short":
        return "is empty", "Write a text."
    if kind == "too_short":
        return "has too few values", f"Write at least {context['min_length']}."
    if kind == "too_long":
        return "has too many values", f"Write at most {context['max_length']}."
    if kind in ("tuple_type", "list_type"):
        return f"{given} is not a list", "Write a list."
    if kind in ("model_type", "dict_type", "model_attributes_type"):
        return f"{given} is not a mapping", "Write key: value lines under it."
    names = {"int": "a whole number", "float": "a number", "finite": "a finite number", "string": "a text",
             "bool": "true or false"}  # fmt: skip
    if family in names:
        return f"{given} is not {names[family]}", f"Write {names[family]}."
    return f"{found['msg'][0].lower()}{found['msg'][1:]} (got {given})", "Change it."
