"""How values are written for a person: the one way that figures, report, summary and live view share."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sweeps.errors import StorageError
from sweeps.history import History
from sweeps.spec import SweepSpec


def spec_of(history: History) -> SweepSpec:
    """The sweep's spec. Raises StorageError when the journal has no `sweep` line yet."""
    if history.spec is None:
        raise StorageError(f"{history.folder}: its journal is empty, so there is nothing to show. Run the sweep again.")
    return history.spec


def number(value: object) -> str:
    """A value with four significant digits, text as it is, nothing as a dash."""
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, float):
        return str(value)
    return f"{value:.4g}"


def signed(value: float) -> str:
    """A difference with its sign."""
    return f"{value:+.3g}"


def mean_sd(mean: float, sd: float | None) -> str:
    """`0.9703 ± 0.0016`: as many digits as the deviation makes meaningful."""
    if sd is None or not math.isfinite(sd) or sd <= 0 or not math.isfinite(mean):
        return number(mean)
    digits = min(max(1 - math.floor(math.log10(sd)), 0), 8)
    return f"{mean:.{digits}f} ± {sd:.{digits}f}"


def duration(seconds: float | None) -> str:
    """`0.4 s`, `34 s`, `1 min 40 s`, `2 h 05 min`; a dash when unknown."""
    if seconds is None:
        return "–"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def moment(at: float) -> str:
    """A recorded time, in UTC: a report reads the same wherever it is opened."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"


def data(of: Mapping[str, Any]) -> str:
    """`all data`, `50 % of the data`, `50 % of 2 classes`, by `data_fraction` and, where there are fewer, `classes`."""
    fraction, classes = of["data_fraction"], of.get("classes")
    whole = f"{classes} classes" if classes else "the data"
    if fraction == 1:
        return whole if classes else "all data"
    return f"{100 * fraction:.3g} % of {whole}"


def count(n: int, noun: str) -> str:
    """`1 trial`, `3 trials`."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def percent(part: float, whole: float) -> str:
    """A share in whole percent; a dash of nothing."""
    return f"{100 * part / whole:.0f} %" if whole > 0 else "–"


def config_words(config: Mapping[str, Any]) -> str:
    """A config on one line."""
    return ", ".join(f"{name} {number(value)}" for name, value in config.items())


def plain(text: str) -> str:
    """Text on one line without control codes: messages of failed trials may hold any bytes."""
    return " ".join("".join(" " if unicodedata.category(c) == "Cc" else c for c in text).split())


def keep_spaces(text: str) -> str:
    """Text without control codes, its columns kept."""
    return "".join(" " if unicodedata.category(c) == "Cc" else c for c in text)


def clip(text: str, width: int) -> str:
    """The text, ended by an ellipsis where it is longer than `width`."""
    return text if len(text) <= width else f"{text[: width - 1]}…"
