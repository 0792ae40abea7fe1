"""Real data that comes inside an installed package: nothing is downloaded.

Place in the flow: example trainables read their rows through it. The package is needed by nothing else of the platform,
so it is none of its dependencies: it is imported when an example is trained, and its absence told in words.
"""

from __future__ import annotations

import importlib
from typing import Any

from trainables.contract import TrainableError


def bokeh_sampledata(module: str) -> Any:
    """A module of the package bokeh_sampledata, whose licenses/datasets.json says where each data set is from.

    Raises TrainableError when it is not installed.
    """
    try:
        return importlib.import_module(f"bokeh_sampledata.{module}")
    except ModuleNotFoundError as error:
        raise TrainableError(
            f"data: this example reads bokeh_sampledata.{module}, and {error.name} is not installed. "
            "pip install 'bokeh_sampledata>=2026.1' where the trials run; in a checkout `pip install --group dev`"
        ) from error
