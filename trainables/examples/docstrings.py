"""The docstrings of Python's own library: which part of it does a text document?

Place in the flow: the trainable of the example sweep docstrings.yaml. The texts are read from the sources of the Python
that runs, without importing them; they differ a little from release to release. The names of the modules are taken out
of the texts, because they would give the answer away.
"""

from __future__ import annotations

import ast
import re
import sysconfig
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import torch
from sklearn.model_selection import train_test_split
from torch import nn

from trainables.contract import Config, Data, Fidelity, TrainableError
from trainables.models.text import TextEncoder, Tokenizer

SPLIT_SEED = 0
"""Of the split into train, val and test: one for all trials and seeds, else their scores would not compare."""
LENGTH = 40
"""Words of a text that are read; two in three texts have fewer."""
FAMILIES = {
    "asyncio": ("asyncio", "selectors"),
    "files": ("pathlib", "shutil", "tarfile", "zipfile", "tempfile", "glob", "gzip", "bz2", "lzma", "fileinput", "os"),
    "graphics": ("tkinter", "turtle"),
    "imports": ("importlib", "pkgutil", "zipimport", "modulefinder", "runpy"),
    "logging": ("logging",),
    "mail": ("email", "mailbox", "smtplib", "imaplib", "poplib"),
    "numbers": ("_pydecimal", "fractions", "statistics", "numbers", "random", "ipaddress", "datetime", "_pydatetime"),
    "parallel": ("multiprocessing", "threading", "concurrent", "subprocess", "queue", "sched"),
    "tests": ("unittest", "doctest", "bdb", "pdb", "trace", "cProfile", "profile"),
    "types": ("typing", "enum", "dataclasses", "abc", "collections", "_collections_abc", "functools", "inspect"),
    "web": ("http", "urllib", "wsgiref", "socketserver", "ftplib", "html", "xmlrpc", "ssl", "webbrowser"),
    "xml": ("xml", "plistlib"),
}
"""Family -> its modules and packages. Some systems package a few apart: what is missing there is left out."""
Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
LEAST_WORDS, LEAST_TEXTS, LEAST_FAMILIES = 5, 80, 4
"""In a text, in a family, in all."""


class Docstrings:
    """The family of modules that a docstring is from; split by class, no text twice.

    Config keys of the model: `width` (a multiple of 4), `depth`, `dropout`.
    """

    def data(self, config: Config, fidelity: Fidelity) -> Data:
        return _splits()[0]

    def model(self, config: Config, data: Data) -> nn.Module:
        _, vocabulary, families = _splits()
        return TextEncoder(
            vocabulary,
            outputs=len(families),
            length=LENGTH,
            width=config.get("width", 32),
            depth=config.get("depth", 1),
            dropout=config.get("dropout", 0.0),
        )


@cache
def _splits() -> tuple[Data, int, list[str]]:
    """The splits, how many different words there are and the classes; read once a process."""
    found = texts(Path(sysconfig.get_path("stdlib")))
    families = sorted(set(found.values()))
    said, y = list(found), torch.tensor([families.index(family) for family in found.values()])
    train, rest = train_test_split(range(len(y)), test_size=0.4, stratify=y, random_state=SPLIT_SEED)
    val, test = train_test_split(rest, test_size=0.5, stratify=y[rest], random_state=SPLIT_SEED)
    tokenizer = Tokenizer(said[row] for row in train)
    x = tokenizer.encode(said, LENGTH)
    return Data(*((x[rows], y[rows]) for rows in (train, val, test))), len(tokenizer), families


@cache
def texts(library: Path) -> dict[str, str]:
    """Text -> family, of the families that have enough. Raises TrainableError when too few have."""
    modules = sorted({part for family in FAMILIES.values() for name in family for part in {name, name.strip("_")}})
    name = re.compile(rf"(?<![^\W\d_])({'|'.join(modules)})(?![^\W\d_])", re.IGNORECASE)  # in http_error, too
    found: dict[str, str] = {}
    several = set()
    for family, packages in FAMILIES.items():
        for text in (" ".join(name.sub(" ", text).split()) for package in packages for text in read(library, package)):
            if found.setdefault(text, family) != family:
                several.add(text)
    counts = Counter(found[text] for text in found if text not in several and len(text.split()) >= LEAST_WORDS)
    enough = {family for family, count in counts.items() if count >= LEAST_TEXTS}
    if len(enough) < LEAST_FAMILIES:
        raise TrainableError(
            f"data: {library} has docstrings of {len(enough)} families of modules, and {LEAST_FAMILIES} are needed. "
            "Use a Python with the sources of its library (*.py), as python.org and Debian's python3 have them"
        )
    return {
        text: family
        for text, family in found.items()
        if text not in several and family in enough and len(text.split()) >= LEAST_WORDS
    }


def read(library: Path, package: str) -> Iterator[str]:
    """The docstrings in a module, or in all modules of a package, without its tests."""
    alone = library / f"{package}.py"
    for file in [alone] if alone.exists() else sorted((library / package).rglob("*.py")):
        if {"test", "tests"}.isdisjoint(file.relative_to(library).parts):
            yield from documented(ast.parse(file.read_text(encoding="utf-8")))


def documented(node: Documented) -> Iterator[str]:
    """The docstring of a module, class or function, and of what is defined in it."""
    yield ast.get_docstring(node) or ""
    for inner in node.body:  # not ast.walk, which looks into every expression: 3 times as long
        if isinstance(inner, Documented):
            yield from documented(inner)
