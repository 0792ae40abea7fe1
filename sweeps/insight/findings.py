"""A finding: what is wrong with data, network, trial or search, on what evidence, and what to do.

Place in the flow: audit, preflight and diagnosis give findings; the driver journals them, report and MLflow show them,
and `advise` makes a trial of a remedy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Severity = Literal["info", "warn", "block"]
"""`info`: worth knowing; `warn`: costs quality; `block`: tuning would be in vain."""


@dataclass(frozen=True)
class Finding:
    """What one check showed."""

    finding: str
    """Its id, the same wherever it is found."""
    severity: Severity
    message: str
    """What was seen, in numbers, and what to do, in a sentence or three."""
    evidence: Mapping[str, Any] = field(default_factory=dict)
    """The numbers, as JSON has them."""


MOST_NAMES = 4


def listed(names: Sequence[Any]) -> str:
    """The first few of what a finding names."""
    more = f" and {len(names) - MOST_NAMES:,} more" if len(names) > MOST_NAMES else ""
    return f"{', '.join(map(str, names[:MOST_NAMES]))}{more}"
