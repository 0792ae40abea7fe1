"""A training loop of your own, that can be stopped and resumed. Run it: `sweeps run sweeps/examples/own_loop.yaml`"""

from copy import deepcopy

import torch
from sklearn.datasets import load_diabetes

from trainables.contract import Report


def trial(config, session):
    torch.manual_seed(session.fidelity.seed)
    x, y = (torch.tensor(a, dtype=torch.float32) for a in load_diabetes(return_X_y=True))
    x, y = x / x.std(0), (y[:, None] - 152) / 77  # the target's mean is 152, its deviation 77
    rows = int(342 * session.fidelity.data_fraction)  # of 442: the last 100 are for validation
    net = torch.nn.Sequential(torch.nn.Linear(10, 32), torch.nn.Tanh(), torch.nn.Linear(32, 1))
    optimizer = torch.optim.Adam(net.parameters(), lr=config["lr"])
    done = 0
    if session.state:
        done = session.state["epoch"]
        net.load_state_dict(session.state["net"])
        optimizer.load_state_dict(deepcopy(session.state["optimizer"]))
    session.checkpoint_with(lambda: {"epoch": done, "net": net.state_dict(), "optimizer": optimizer.state_dict()})
    for epoch in range(done, session.fidelity.epochs):
        for batch in torch.randperm(rows, generator=torch.Generator().manual_seed(epoch)).split(32):
            optimizer.zero_grad()
            (net(x[batch]) - y[batch]).square().mean().backward()
            optimizer.step()
        done = epoch + 1
        squares = (net(x) - y).square().detach()
        yield Report(done, {"train/loss": squares[:rows].mean().item(), "val/loss": squares[342:].mean().item()})
