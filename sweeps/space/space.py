"""The search space: named domains and their conditions, as one immutable value.

A config is a flat dict of names to values. A parameter with a condition is in the config only where its condition
holds. A dotted name whose first part is a value of a choice (`sgd.momentum`) carries that condition by itself, so
that parameters of the same name under different optimizers are never merged (PB).
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from pydantic import RootModel, SerializeAsAny, ValidationError, model_validator

from sweeps.errors import SpecError, in_words
from sweeps.space.domains import Choice, Constant, Domain, Float, Int, PowersOfTwo
from sweeps.space.playbook import PLAYBOOK

Config = dict[str, Any]
Configs = tuple[tuple[int, Config], ...]
"""A schedule of configs: each holds after its epoch, the first after 0."""
FORMS: dict[str, type[Domain]] = {
    "float": Float,
    "int": Int,
    "powers_of_two": PowersOfTwo,
    "choice": Choice,
    "constant": Constant,
}


class Space(RootModel[dict[str, SerializeAsAny[Domain]]]):
    """Domains by parameter name, parents of conditions before the parameters that depend on them.

    Raises SpecError for a domain or a condition that makes no sense, naming `space.<parameter>`.
    """

    model_config = {"frozen": True}

    @model_validator(mode="before")
    @classmethod
    def _read(cls, raw: Any) -> Any:
        if not isinstance(raw, Mapping) or not raw:
            raise SpecError(
                "space",
                "names no parameter",
                "Write e.g. {lr: {log: [1e-4, 1e-1]}}; `lr:` alone takes the playbook's range.",
            )
        domains = {str(name): read_domain(str(name), given) for name, given in raw.items()}
        return order_by_condition({name: with_condition(name, d, domains) for name, d in domains.items()})

    def __iter__(self) -> Iterator[str]:  # type: ignore[override]
        return iter(self.root)

    def __getitem__(self, name: str) -> Domain:
        return self.root[name]

    def __contains__(self, name: object) -> bool:
        return name in self.root

    def __len__(self) -> int:
        return len(self.root)

    @property
    def searched(self) -> list[str]:
        """Names of the parameters that vary, in order."""
        return [name for name, domain in self.root.items() if not isinstance(domain, Constant)]

    def active(self, name: str, config: Mapping[str, Any]) -> bool:
        """Whether parameter `name` exists in a config with these values of its parents."""
        return all(parent in config and config[parent] in values for parent, values in self.root[name].when.items())

    def decode(self, point: Sequence[float] | Mapping[str, float]) -> Config:
        """The config at a point of the unit cube: coordinates of `searched`, in order or by name."""
        coordinates = point if isinstance(point, Mapping) else dict(zip(self.searched, point, strict=True))
        config: Config = {}
        for name, domain in self.root.items():
            if self.active(name, config):
                config[name] = domain.decode(coordinates.get(name, 0.5))
        return config

    def encode(self, config: Mapping[str, Any]) -> dict[str, float] | None:
        """Coordinates of a config's active searched parameters; None when one lies outside its domain or is missing."""
        point: dict[str, float] = {}
        for name in self.searched:
            if not self.active(name, config):
                continue
            u = self.root[name].encode(config.get(name))
            if u is None:
                return None
            point[name] = u
        return point

    def completed(self, config: Mapping[str, Any]) -> Config:
        """The config without parameters whose condition no longer holds, and with the middle of the domain of those
        whose condition has come to hold."""
        found: Config = {name: value for name, value in config.items() if name not in self.root}
        for name, domain in self.root.items():
            if self.active(name, found):
                found[name] = config[name] if name in config else domain.decode(0.5)
        return found

    def grid(self, points: int) -> list[Config]:
        """Every combination of at most `points` values a parameter; conditional parameters only where they exist."""
        configs: list[Config] = [{}]
        for name, domain in self.root.items():
            configs = list(
                itertools.chain.from_iterable(
                    [{**config, name: value} for value in domain.grid(points)]
                    if self.active(name, config)
                    else [config]
                    for config in configs
                )
            )
        return configs

    def replace(self, changed: Mapping[str, Domain]) -> Space:
        """The same space with some domains exchanged; parameters that can no longer be active are dropped."""
        domains = {**self.root, **changed}

        def possible(name: str) -> bool:
            return all(
                parent in domains and possible(parent) and any(domains[parent].encode(v) is not None for v in values)
                for parent, values in domains[name].when.items()
            )

        def with_what_is_left(domain: Domain) -> Domain:
            when = {
                parent: tuple(v for v in values if domains[parent].encode(v) is not None)
                for parent, values in domain.when.items()
            }
            return domain.model_copy(update={"when": when})

        return Space({name: with_what_is_left(domain) for name, domain in domains.items() if possible(name)})

    def exchanged(self, names: Collection[str], instead: Callable[[Any], Any]) -> Space:
        """The same space with other values in the place of those listed of some parameters, in conditions too."""

        def other(name: str, domain: Domain) -> Domain:
            domain = domain.exchanged(instead) if name in names else domain
            when = {
                parent: tuple(map(instead, values)) if parent in names else values
                for parent, values in domain.when.items()
            }
            return domain.model_copy(update={"when": when})

        return Space({name: other(name, domain) for name, domain in self.root.items()})


def read_domain(name: str, given: Any) -> Domain:
    """The domain that a spec's entry means: a Domain, one of the forms of `sweeps.space.domains`, a list, a value."""
    path = f"space.{name}"
    if isinstance(given, Domain):
        return given
    if given is None:
        entry = PLAYBOOK.get(name) or PLAYBOOK.get(name.rpartition(".")[2])
        if entry is None:
            near = difflib.get_close_matches(name, PLAYBOOK, n=1)
            hint = f"Did you mean {near[0]}? Otherwise write" if near else "Write"
            raise SpecError(path, "has no domain, and the playbook has none for it", f"{hint} e.g. {{float: [0, 1]}}.")
        return entry
    if isinstance(given, list | tuple):
        given = {"choice": list(given)}
    if not isinstance(given, Mapping):
        return Constant(constant=given)
    fields = dict(given)
    short = "log" in fields and not FORMS.keys() & fields.keys()
    if short:
        if "scale" in fields:
            raise SpecError(f"{path}.scale", "log has its scale already", "Drop scale, or write float instead of log.")
        fields["float"], fields["scale"] = fields.pop("log"), "log"
    forms = [form for form in FORMS if form in fields]
    if len(forms) != 1:
        if not forms and set(fields) == {"when"}:  # the playbook's domain under a condition
            return read_domain(name, None).model_copy(update={"when": Constant(constant=0, when=fields["when"]).when})
        known = "float, log, int, powers_of_two, choice, constant"
        raise SpecError(
            path,
            f"has {'no' if not forms else 'more than one'} kind of domain",
            f"Use exactly one of {known}.",
        )
    model = FORMS[forms[0]]
    written = "log" if short else forms[0]  # messages speak of the key that stands in the spec
    try:
        return model.model_validate(fields)
    except SpecError as error:
        raise SpecError(path, error.problem, error.mend) from None
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0])
        key = written if key == forms[0] else key
        if first["type"] == "extra_forbidden":
            near = difflib.get_close_matches(key, [f.alias or n for n, f in model.model_fields.items()], n=1)
            mend = f"Did you mean {near[0]}?" if near else f"A {written} domain has no such option."
            raise SpecError(f"{path}.{key}", "unknown key", mend) from None
        problem, mend = in_words(first)
        if key == written and model is Choice:
            problem, mend = f"{first['input']!r} is not a single value", "List texts, numbers, true or false."
        elif key == written and model is not Constant:
            whole = "" if model is Float else "whole "
            problem = f"{fields[forms[0]]!r} is not a pair of {whole}numbers"
            mend = f"Write {{{written}: [low, high]}}."
        raise SpecError(f"{path}.{key}", problem, mend) from None


def with_condition(name: str, domain: Domain, domains: Mapping[str, Domain]) -> Domain:
    """The domain with the condition that its dotted name implies, its conditions checked against the parents."""
    path, prefix = f"space.{name}", name.partition(".")[0]
    if "." in name and not domain.when:
        parents = [p for p, d in domains.items() if isinstance(d, Choice | Constant) and d.encode(prefix) is not None]
        if len(parents) != 1:
            raise SpecError(
                path,
                f"{'no' if not parents else 'more than one'} parameter has the value {prefix!r} that it begins with",
                f"Add {prefix} to the choice it belongs to, or write `when:` with its condition.",
            )
        domain = domain.model_copy(update={"when": {parents[0]: (prefix,)}})
    for parent, values in domain.when.items():
        if parent not in domains or parent == name:
            near = difflib.get_close_matches(parent, [n for n in domains if n != name], n=1)
            raise SpecError(
                f"{path}.when",
                f"unknown parameter {parent!r}",
                f"Did you mean {near[0]}?" if near else "Name a parameter of the space.",
            )
        if isinstance(domains[parent], Float):
            raise SpecError(
                f"{path}.when.{parent}",
                "a real number practically never equals a value",
                "Make the condition depend on a choice or a whole number.",
            )
        for value in values:
            if domains[parent].encode(value) is None:
                raise SpecError(
                    f"{path}.when.{parent}",
                    f"{value!r} is not a value of {parent} ({domains[parent]})",
                    "Write one of its values.",
                )
    return domain


def order_by_condition(domains: dict[str, Domain]) -> dict[str, Domain]:
    """Parents first, otherwise in the given order; raises SpecError when conditions form a circle."""
    ordered: dict[str, Domain] = {}
    waiting = dict(domains)
    while waiting:
        ready = [name for name, domain in waiting.items() if all(parent in ordered for parent in domain.when)]
        if not ready:
            names = ", ".join(waiting)
            raise SpecError(
                "space",
                f"the conditions of {names} form a circle",
                "Let one of them exist without a condition.",
            )
        for name in ready:
            ordered[name] = waiting.pop(name)
    return ordered
