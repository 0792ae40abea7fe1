"""Naming a trainable: what loads, what is refused, and what the refusal says."""

import inspect

import pytest

from trainables.contract import Data, Fidelity, Report, Session, TrainableError, load, resolve
from trainables.examples.digits import Digits


def spelled(config, session):
    yield Report(1, {"val/loss": config["x"]})


class Halfway:
    def data(self, config, fidelity):
        return Data(None, None)


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write a module that can be imported during one test."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(name, text):
        (tmp_path / f"{name}.py").write_text(text)

    return write


def test_a_dotted_attribute_is_loaded(module):
    module("own_dotted", "class Outer:\n    class Inner: pass\n")
    assert load("own_dotted:Outer.Inner").__qualname__ == "Outer.Inner"


@pytest.mark.parametrize("name", ["digits", ":Digits", "digits:", ""])
def test_a_malformed_name_says_the_form(name):
    with pytest.raises(TrainableError, match=r"not of the form module:attr"):
        load(name)


def test_a_missing_module_is_told_from_a_missing_dependency(module):
    module("own_needs", "import not_installed_anywhere\n")
    with pytest.raises(TrainableError, match=r"no module named 'no_such_module' on the path"):
        load("no_such_module:X")
    with pytest.raises(TrainableError, match=r"own_needs needs 'not_installed_anywhere', which is not installed"):
        load("own_needs:X")


def test_a_module_that_raises_and_a_missing_attribute_are_named(module):
    module("own_raises", "1 / 0\n")
    module("own_other", "class Net: pass\n")
    with pytest.raises(TrainableError, match=r"importing 'own_raises' raised ZeroDivisionError"):
        load("own_raises:X")
    with pytest.raises(TrainableError, match=r"no attribute 'Nett'; it has Net"):
        load("own_other:Nett")


def test_a_generator_function_is_its_own_trial():
    assert resolve(spelled) is spelled
    assert [r.metrics for r in resolve(spelled)({"x": 2.0}, Session(Fidelity(1)))] == [{"val/loss": 2.0}]


@pytest.mark.parametrize("given", [Digits, Digits(), "trainables.examples.digits:Digits"])
def test_a_class_an_instance_and_a_name_train_with_our_loop(given):
    reports = resolve(given)({"width": 4, "depth": 0}, Session(Fidelity(2, data_fraction=0.2)))
    assert inspect.isgenerator(reports)
    assert [report.epoch for report in reports] == [1, 2]


@pytest.mark.parametrize("given", [Halfway, Halfway(), len, 3])
def test_what_is_no_trainable_is_refused(given):
    with pytest.raises(TrainableError, match=r"neither a generator function .* nor an object with data"):
        resolve(given)
