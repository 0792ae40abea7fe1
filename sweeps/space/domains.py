"""Domains: the set of values that one parameter may take, and its map to and from the unit interval.

Everything that searches works on the unit cube: Sobol draws points in it, TPE models it, narrowing cuts it. A domain
`decode`s a coordinate in [0, 1) to a value and `encode`s a value to the middle of the coordinates that give it.
In YAML and in Python a domain is written the same way:

    {float: [0.0, 0.2]}              {float: [0.8, 0.999], scale: one_minus}     {float: [0, 1], step: 0.25}
    {log: [1e-5, 1e-1]}              {log: [1e-6, 1e-1], or_zero: true}          short for float with scale: log
    {int: [1, 8], step: 1}           {int: [8, 512], scale: log}
    {powers_of_two: [16, 128]}       [sgd, adamw], or {choice: [sgd, adamw]}     0.1, or {constant: 0.1}

any of them with `when: {optimizer: sgd}`, which makes the parameter exist under that condition only.
"""

from __future__ import annotations

import json
import math
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator

from sweeps.errors import SpecError

range_ = range  # `range` is a field of the domains below
Scalar = bool | int | float | str
ZERO_SHARE = 0.2
"""Share of the unit interval that stands for exactly 0 in an `or_zero` domain: one draw in five compares with none."""


class Domain(BaseModel):
    """The values of one parameter. Subclasses say how coordinates in [0, 1) become values; all are immutable."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)
    when: dict[str, tuple[Scalar, ...]] = Field(default_factory=dict)
    """Conditions, all of which must hold: name of a choice -> the values under which this parameter exists."""
    source: str = ""
    """Where the range comes from: empty for the spec's own, else the playbook's entry with its reference."""

    @field_validator("when", mode="before")
    @classmethod
    def _values_as_tuples(cls, when: Any) -> Any:
        if not isinstance(when, dict):
            return when
        return {k: tuple(v) if isinstance(v, list | tuple) else (v,) for k, v in when.items()}

    @abstractmethod
    def decode(self, u: float) -> Any:
        """The value at coordinate `u` in [0, 1]."""

    @abstractmethod
    def encode(self, value: Any) -> float | None:
        """A coordinate that decodes to `value` (or to its nearest neighbour in the domain); None when outside."""

    @abstractmethod
    def grid(self, points: int) -> list[Any]:
        """At most `points` values that cover the domain evenly, its ends included."""

    def narrowed(self, low: float, high: float) -> Self:
        """The part between two coordinates; the ends are values of this domain."""
        raise TypeError(f"{type(self).__name__} has no range to narrow")

    def widened(self, side: Literal["low", "high"], by: float) -> Self:
        """Extended on one side by the fraction `by` of its width; unchanged where a natural limit forbids it."""
        return self

    def exchanged(self, instead: Callable[[Any], Any]) -> Self:
        """With another value in the place of each that is listed one by one; a range has none such."""
        return self

    @abstractmethod
    def __str__(self) -> str: ...


class Range(Domain):
    """A domain between two ends."""

    @property
    def span(self) -> tuple[float, float]:
        """Lowest and highest value."""
        raise TypeError


def show(value: Any) -> str:
    """A value as a person writes it: 0.001, 3e-05, sgd."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def check_ends(kind: str, low: float, high: float) -> None:
    """Raises SpecError (without a path) when the ends of a range are not in order or not finite."""
    if not (math.isfinite(low) and math.isfinite(high)):
        raise SpecError("", f"[{low}, {high}] is not finite", "Give two finite numbers.")
    if low > high:
        raise SpecError(
            "",
            f"low ({show(low)}) is above high ({show(high)})",
            "Write both above 0."
            if kind == "log" and high <= 0
            else f"Swap them, or write {{{kind}: [{high}, {low}]}}.",
        )
    if low == high:
        raise SpecError(
            "", f"low and high are both {show(low)}", f"Write the constant {show(low)}, or widen the range."
        )


class Float(Range):
    """Real numbers, uniform on a linear scale, in their logarithm, or in the logarithm of 1 − x (`one_minus`)."""

    range: tuple[float, float] = Field(alias="float")
    scale: Literal["linear", "log", "one_minus"] = "linear"
    step: float | None = Field(default=None, gt=0)
    """Linear scale only: values are low, low + step, …"""
    or_zero: bool = False
    """Exactly 0 is also a value, drawn one time in five: the arm without it is always compared."""

    def model_post_init(self, context: Any, /) -> None:
        low, high = self.range
        check_ends("log" if self.scale == "log" else "float", low, high)
        if self.scale == "log" and low <= 0:
            example = f", e.g. {{log: [{show(high / 1000)}, {show(high)}]}}" if high > 0 else ""
            raise SpecError(
                "",
                f"a logarithmic range cannot begin at {show(low)}",
                f"Begin above 0{example}, add or_zero: true if 0 is meant too, or use {{float: …}}.",
            )
        if self.scale == "one_minus" and high >= 1:
            raise SpecError("", f"a one_minus range must end below 1, not at {show(high)}", "Lower its end.")
        if self.step is not None and self.scale != "linear":
            raise SpecError("", f"step has no meaning on the scale {self.scale}", "Drop step, or the scale.")

    @property
    def span(self) -> tuple[float, float]:
        return self.range

    def _forward(self, value: float) -> float:
        if self.scale == "linear":
            return value
        return math.log(value) if self.scale == "log" else -math.log1p(-value)

    def _backward(self, t: float) -> float:
        if self.scale == "linear":
            return t
        return math.exp(t) if self.scale == "log" else -math.expm1(-t)

    def decode(self, u: float) -> float:
        if self.or_zero:
            if u < ZERO_SHARE:
                return 0.0
            u = (u - ZERO_SHARE) / (1 - ZERO_SHARE)
        low, high = self.range
        start, end = self._forward(low), self._forward(high)
        value = self._backward(start + u * (end - start))
        if self.step is not None:
            value = round(low + self.step * round((value - low) / self.step), 12)  # 0.3, not 0.30000000000000004
            if value > high + 1e-12 * self.step:
                value -= self.step
        return min(max(value, low), high)

    def encode(self, value: Any) -> float | None:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        if self.or_zero and value == 0:
            return ZERO_SHARE / 2
        low, high = self.range
        if not low <= value <= high:
            return None
        start, end = self._forward(low), self._forward(high)
        u = (self._forward(value) - start) / (end - start)
        return ZERO_SHARE + u * (1 - ZERO_SHARE) if self.or_zero else u

    def grid(self, points: int) -> list[Any]:
        plain = self.model_copy(update={"or_zero": False})
        count = points - 1 if self.or_zero else points
        values = [plain.decode(i / max(count - 1, 1)) for i in range_(count)]
        return list(dict.fromkeys(([0.0] if self.or_zero else []) + values))

    def narrowed(self, low: float, high: float) -> Self:
        plain = self.model_copy(update={"or_zero": False, "step": None})
        ends = (plain.decode(low), plain.decode(high))
        if self.step is not None:  # whole steps from the old low end, so that every value stays a value of this domain
            first = self.range[0]
            down = first + self.step * math.floor((ends[0] - first) / self.step + 1e-9)
            up = first + self.step * math.ceil((ends[1] - first) / self.step - 1e-9)
            ends = (down, min(up, self.range[1]))
        return self.model_copy(update={"range": ends})

    def widened(self, side: Literal["low", "high"], by: float) -> Self:
        low, high = self.range
        if self.step is not None:  # by whole steps from the low end, so that every value tried stays a value
            steps = math.ceil(by * (high - low) / self.step - 1e-9)
            if side == "low":
                room = math.floor(low / self.step + 1e-9) if low >= 0 else steps
                return self.model_copy(update={"range": (low - self.step * min(steps, room), high)})
            new = high + self.step * steps
            return self.model_copy(update={"range": (low, min(new, 1.0) if high <= 1 else new)})
        start, end = self._forward(low), self._forward(high)
        if side == "low":
            new = self._backward(start - by * (end - start))
            if self.scale != "log" and low >= 0:  # what was never negative stays so: rates, shares, penalties
                new = max(new, 0.0)
            return self.model_copy(update={"range": (new, high)})
        new = self._backward(end + by * (end - start))
        if self.scale == "linear" and high <= 1:  # probabilities and shares end at 1
            new = min(new, 1.0)
        return self.model_copy(update={"range": (low, new)})

    def __str__(self) -> str:
        low, high = map(show, self.range)
        scale = {"linear": "", "log": " log", "one_minus": " log of 1−x"}[self.scale]
        return (
            f"{'0 or ' if self.or_zero else ''}{low} … {high}{scale}{f' step {show(self.step)}' if self.step else ''}"
        )


class Int(Range):
    """Whole numbers from low to high, both included, with a step, uniform on a linear or a logarithmic scale."""

    range: tuple[int, int] = Field(alias="int")
    scale: Literal["linear", "log"] = "linear"
    step: int = Field(default=1, gt=0)

    def model_post_init(self, context: Any, /) -> None:
        low, high = self.range
        check_ends("int", low, high)
        if self.scale == "log" and low <= 0:
            raise SpecError(
                "", f"a logarithmic range cannot begin at {low}", "Begin at 1 or above, or drop scale: log."
            )
        if self.scale == "log" and self.step != 1:
            raise SpecError("", "step has no meaning on the scale log", "Drop step, or the scale.")

    @property
    def span(self) -> tuple[float, float]:
        return self.range

    def _bounds(self) -> tuple[float, float]:
        """Ends of the bins of the first and the last value, so that every value gets its whole bin."""
        low, high = self.range
        if self.scale == "log":
            return math.log(low - 0.5), math.log(high + 0.5)
        last = (high - low) // self.step
        return -0.5, last + 0.5

    def decode(self, u: float) -> int:
        low, high = self.range
        start, end = self._bounds()
        t = start + min(max(u, 0.0), 1.0) * (end - start)
        if self.scale == "log":
            return min(max(round(math.exp(t)), low), high)
        last = (high - low) // self.step
        return low + self.step * min(max(math.floor(t + 0.5), 0), last)

    def encode(self, value: Any) -> float | None:
        if isinstance(value, bool) or not isinstance(value, int | float) or not self.range[0] <= value <= self.range[1]:
            return None
        start, end = self._bounds()
        t = math.log(value) if self.scale == "log" else (value - self.range[0]) / self.step
        return min(max((t - start) / (end - start), 0.0), 1.0)

    def grid(self, points: int) -> list[Any]:
        return list(dict.fromkeys(self.decode(i / max(points - 1, 1)) for i in range_(points)))

    def narrowed(self, low: float, high: float) -> Self:
        first, last = self.decode(low), self.decode(high)
        if first == last:  # one value alone is no range: its neighbours stay
            first, last = max(first - self.step, self.range[0]), min(last + self.step, self.range[1])
        return self.model_copy(update={"range": (first, last)})

    def widened(self, side: Literal["low", "high"], by: float) -> Self:
        low, high = self.range
        if self.scale == "log":
            factor = (high / low) ** by
            new_low, new_high = math.floor(low / factor), math.ceil(high * factor)
        else:
            reach = self.step * math.ceil(by * (high - low) / self.step)
            new_low, new_high = low - reach, high + reach
        if low >= 0:  # counts (layers, units) stay counts, and levels that begin at 0 stay levels
            while new_low < min(low, 1):
                new_low += self.step
        return self.model_copy(update={"range": (new_low, high) if side == "low" else (low, new_high)})

    def __str__(self) -> str:
        step = f" step {self.step}" if self.step != 1 else ""
        return f"{self.range[0]} … {self.range[1]}{' log' if self.scale == 'log' else ''}{step} (whole)"


class PowersOfTwo(Range):
    """1, 2, 4, … between two ends that are powers of two themselves. Never widened: above lies the memory bound."""

    range: tuple[int, int] = Field(alias="powers_of_two")

    def model_post_init(self, context: Any, /) -> None:
        check_ends("powers_of_two", *self.range)
        for end in self.range:
            if end < 1 or end & (end - 1):
                near = 2 ** max(round(math.log2(max(end, 1))), 0)
                raise SpecError("", f"{end} is not a power of two", f"Write {near}, or use {{int: …, scale: log}}.")

    @property
    def span(self) -> tuple[float, float]:
        return self.range

    @property
    def values(self) -> list[int]:
        low, high = (end.bit_length() - 1 for end in self.range)
        return [2**k for k in range_(low, high + 1)]

    def decode(self, u: float) -> int:
        values = self.values
        return values[min(int(max(u, 0.0) * len(values)), len(values) - 1)]

    def encode(self, value: Any) -> float | None:
        values = self.values
        return (values.index(value) + 0.5) / len(values) if value in values else None

    def grid(self, points: int) -> list[Any]:
        values = self.values
        return list(dict.fromkeys(values[round(i * (len(values) - 1) / max(points - 1, 1))] for i in range_(points)))

    def narrowed(self, low: float, high: float) -> Self:
        first, last = self.decode(low), self.decode(high)
        if first == last:  # one value alone is no range: its neighbours stay
            first, last = max(first // 2, self.range[0]), min(last * 2, self.range[1])
        return self.model_copy(update={"range": (first, last)})

    def __str__(self) -> str:
        return f"{self.range[0]} … {self.range[1]} (powers of two)"


class Choice(Domain):
    """One of a list of values without an order."""

    choice: tuple[Scalar | None, ...]

    def model_post_init(self, context: Any, /) -> None:
        if not self.choice:
            raise SpecError("", "a choice needs at least one value", "List the values.")
        if len(set(map(repr, self.choice))) != len(self.choice):
            raise SpecError("", f"a value stands twice in {list(self.choice)}", "List each value once.")

    def decode(self, u: float) -> Scalar | None:
        return self.choice[min(int(max(u, 0.0) * len(self.choice)), len(self.choice) - 1)]

    def encode(self, value: Any) -> float | None:
        for i, known in enumerate(self.choice):
            if known == value and type(known) is type(value):
                return (i + 0.5) / len(self.choice)
        return None

    def grid(self, points: int) -> list[Any]:
        return list(self.choice)

    def exchanged(self, instead: Callable[[Any], Any]) -> Self:
        return self.model_copy(update={"choice": tuple(map(instead, self.choice))})

    def __str__(self) -> str:
        return " | ".join(map(show, self.choice))


class Constant(Domain):
    """One value, not searched; it travels in every config."""

    constant: Any

    def model_post_init(self, context: Any, /) -> None:
        try:
            json.dumps(self.constant, allow_nan=False)
        except (TypeError, ValueError):
            kind = type(self.constant).__name__
            raise SpecError(
                "", f"{self.constant!r} is a {kind} that JSON has not", "Write a finite number or a text (in quotes)."
            ) from None

    def decode(self, u: float) -> Any:
        return self.constant

    def encode(self, value: Any) -> float | None:
        return 0.5 if value == self.constant else None

    def grid(self, points: int) -> list[Any]:
        return [self.constant]

    def exchanged(self, instead: Callable[[Any], Any]) -> Self:
        return self.model_copy(update={"constant": instead(self.constant)})

    def __str__(self) -> str:
        return show(self.constant)
