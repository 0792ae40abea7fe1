"""Two small tables of scikit-learn's, and a perceptron: breast cancer (classes) and diabetes (a number).

Place in the flow: the trainables of the example sweeps breast_cancer.yaml and diabetes.yaml. With a few hundred rows a
network overfits within a few epochs: what a sweep has to find here is how to hold it back.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pyarrow as pa
from sklearn.datasets import load_breast_cancer, load_diabetes
from torch import nn

from trainables.contract import Config, Data, Fidelity
from trainables.data.tables import table
from trainables.models.mlp import Mlp

SHARES = (0.6, 0.2, 0.2)
SPLIT_SEED = 0
"""Of the split into train, val and test: one for all trials and seeds, else their scores would not compare."""


class BreastCancer:
    """Is a tumour malignant, by 30 measures of its cells? 569 rows, split by class.

    Config keys of the model, of Diabetes too: `width`, `depth`, `dropout`, `activation`, `norm`.
    """

    def data(self, config: Config, fidelity: Fidelity) -> Data:
        return _breast_cancer()

    def model(self, config: Config, data: Data) -> nn.Module:
        return perceptron(config, data, outputs=2)


class Diabetes:
    """How far has diabetes come a year later, by ten measures of a patient? 442 rows.

    The target is in standard deviations of the training rows from their mean: a loss of 1 is what the mean would have.
    """

    def data(self, config: Config, fidelity: Fidelity) -> Data:
        return _diabetes()

    def model(self, config: Config, data: Data) -> nn.Module:
        return perceptron(config, data, outputs=1)


def perceptron(config: Config, data: Data, outputs: int) -> Mlp:
    """The network over a table's columns, standardised by the training rows."""
    return Mlp(
        columns=len(data.train.table.columns),
        outputs=outputs,
        width=config.get("width", 64),
        depth=config.get("depth", 2),
        activation=config.get("activation", "relu"),
        norm=config.get("norm", "batch"),
        dropout=config.get("dropout", 0.0),
        categories=data.train.table.categories,
        moments=data.train.moments,
    )


@cache
def _breast_cancer() -> Data:
    """Read and split once a process: a slot trains many trials on the same rows."""
    found = load_breast_cancer()
    columns = dict(zip(found.feature_names, found.data.T, strict=True))
    classes = found.target_names[found.target]
    return Data(*table(pa.table({**columns, "class": classes}), target="class").split(*SHARES, seed=SPLIT_SEED))


@cache
def _diabetes() -> Data:
    found = load_diabetes(scaled=False)  # scikit-learn's scaling knows all rows
    columns = dict(zip(found.feature_names, found.data.T, strict=True))
    rows = table(pa.table({**columns, "progress": found.target}), target="progress", categories=("sex",))
    splits = rows.split(*SHARES, seed=SPLIT_SEED)
    known = rows.y[splits[0].index]
    scaled = replace(rows, y=(rows.y - known.mean()) / known.std())
    return Data(*(scaled.rows(split.index) for split in splits))
