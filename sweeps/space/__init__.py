"""What may be tried: domains, conditions, the playbook's ranges; decode, encode, narrow, mutate."""

from sweeps.space.domains import Choice, Constant, Domain, Float, Int, PowersOfTwo, Range, show
from sweeps.space.mutate import mutate
from sweeps.space.narrow import EDGE, WIDEN, Change, Side, edge_of, narrow
from sweeps.space.playbook import PLAYBOOK
from sweeps.space.space import Config, Configs, Space

__all__ = [
    "EDGE",
    "PLAYBOOK",
    "WIDEN",
    "Change",
    "Choice",
    "Config",
    "Configs",
    "Constant",
    "Domain",
    "Float",
    "Int",
    "PowersOfTwo",
    "Range",
    "Side",
    "Space",
    "edge_of",
    "mutate",
    "narrow",
    "show",
]
