"""Gradients bounded at a norm and at a percentile of the norms seen."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from trainables.clipping import WINDOW, Clipper

CPU = torch.device("cpu")


def with_gradient(norm):
    """Two parameters whose gradients have this norm together."""
    parameters = [nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(2, 2)), nn.Parameter(torch.zeros(1))]
    for parameter, size in zip(parameters[:2], (0.6, 0.8), strict=True):
        parameter.grad = torch.full_like(parameter, size * norm / parameter.numel() ** 0.5)
    return parameters


def norm_of(parameters):
    return float(torch.cat([p.grad.flatten() for p in parameters if p.grad is not None]).norm())


@pytest.mark.parametrize(("norm", "after"), [(3.0, 1.0), (0.5, 0.5)])
def test_a_norm_is_a_bound(norm, after):
    parameters = with_gradient(norm)
    assert float(Clipper(1.0, None, CPU)(parameters)) == pytest.approx(norm)
    assert norm_of(parameters) == pytest.approx(after, rel=1e-5)


def test_without_either_the_gradient_is_only_measured():
    parameters = with_gradient(30.0)
    assert float(Clipper(None, None, CPU)(parameters)) == pytest.approx(30.0)
    assert norm_of(parameters) == pytest.approx(30.0)


def test_the_percentile_is_that_of_the_newest_norms():
    clipper, draw = Clipper(None, 90.0, CPU), np.random.default_rng(0)
    norms = draw.lognormal(0, 1, 2 * WINDOW + 7)
    for number, norm in enumerate(norms):
        parameters = with_gradient(norm)
        clipper(parameters)
        limit = np.percentile(norms[max(0, number + 1 - WINDOW) : number + 1], 90)
        assert norm_of(parameters) == pytest.approx(min(norm, limit), rel=1e-4)


def test_an_overflow_does_not_count():
    clipper = Clipper(None, 50.0, CPU)
    clipper(with_gradient(float("inf")))
    clipper(with_gradient(2.0))
    clipper(with_gradient(float("nan")))
    parameters = with_gradient(8.0)
    clipper(parameters)
    assert norm_of(parameters) == pytest.approx(5.0, rel=1e-5)


def test_it_goes_on_where_it_was():
    whole, draw = Clipper(None, 75.0, CPU), np.random.default_rng(1)
    for norm in draw.lognormal(0, 1, 20):
        whole(with_gradient(norm))
    half = Clipper(None, 75.0, CPU)
    half.restore(whole.capture())
    for norm in draw.lognormal(0, 1, 20):
        ours, theirs = with_gradient(norm), with_gradient(norm)
        half(ours)
        whole(theirs)
        assert norm_of(ours) == norm_of(theirs)
