"""Some 16,000 films, of categories and numbers: did the critics like it, by what is known when it comes out?

Place in the flow: the trainable of the example sweep films.yaml. The films are Wikidata's, of 1940 to 2014, under CC0,
in the package bokeh_sampledata. What came after the première, such as prizes and receipts, is left out.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import closing
from functools import cache

import pyarrow as pa
from torch import nn

from trainables.contract import Config, Data, Fidelity
from trainables.data.tables import table
from trainables.examples.packaged import bokeh_sampledata
from trainables.examples.tables import SHARES, SPLIT_SEED, perceptron

FRESH = 60
"""Per cent of the reviews that are good, from which on Rotten Tomatoes calls a film fresh."""
RARE = 20
"""A studio, country … with fewer films is one of the others."""
QUERY = """
    select Year, substr(Released, 6, 2), Runtime, omdb.Rating, Genre, Language, Country, Production, "Cast", Writer,
        Meter
    from omdb join tomatoes using (ID) where Meter is not null and Runtime is not null order by ID
"""


class Films:
    """Fresh or not, by year, month, length, certificate, genre, language, country, studio; split by class.

    Config keys of the model: `width`, `depth`, `dropout`, `activation`, `norm`.
    """

    def data(self, config: Config, fidelity: Fidelity) -> Data:
        return _splits()

    def model(self, config: Config, data: Data) -> nn.Module:
        return perceptron(config, data, outputs=2)


@cache
def _splits() -> Data:
    """Read and split once a process: a slot trains many trials on the same rows."""
    path = bokeh_sampledata("movies_data").movie_path
    with closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as database:
        year, month, minutes, certificate, genre, language, country, studio, cast, writer, meter = zip(
            *database.execute(QUERY), strict=True
        )
    columns = {
        "year": [float(value) for value in year],
        "minutes": minutes,
        "genres": [float(len(listed(value))) for value in genre],
        "countries": [float(len(listed(value))) for value in country],
        "cast": [float(len(listed(value))) for value in cast],
        "writers": [float(len(listed(value))) for value in writer],
        "month": month,
        "certificate": usual([value or "none" for value in certificate]),
        "genre": usual([first(value) for value in genre]),
        "second genre": usual([first(", ".join(listed(value)[1:])) for value in genre]),
        "language": usual([first(value) for value in language]),
        "country": usual([first(value) for value in country]),
        "studio": usual([first(value) for value in studio]),
        "judged": ["fresh" if value >= FRESH else "rotten" for value in meter],
    }
    return Data(*table(pa.table(columns), target="judged").split(*SHARES, seed=SPLIT_SEED))


def listed(names: str | None) -> list[str]:
    """The names in a list with commas."""
    return [name for name in (names or "").split(", ") if name]


def first(names: str | None) -> str:
    """The first name of a list with commas."""
    return (listed(names) or ["none"])[0]


def usual(values: list[str]) -> list[str]:
    """The values, rare ones as `other`."""
    counts = Counter(values)
    return [value if counts[value] >= RARE else "other" for value in values]
