"""The training loop, by what it reports and by what it does to the model."""

import math
from itertools import chain

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from trainables.contract import Data, Fidelity, Session, TrainableError
from trainables.evaluation import evaluate_split, load_model
from trainables.hyperparameters import resolve
from trainables.loop import train
from trainables.objective import objective
from unit.trainable_helpers import Blobs, Line

KEYS = {
    "train/loss",
    "train/accuracy",
    "val/loss",
    "val/accuracy",
    "grad/norm",
    "grad/norm_p50",
    "grad/norm_p90",
    "grad/norm_p99",
    "grad/first_to_last",
    "val/dead_units",
    "val/max_probability",
    "val/ece",
    "time/train_s",
    "time/eval_s",
    "time/rows_per_s",
    "hp/lr",
}


def run(trainable, config=None, epochs=2, **fidelity):
    """The reports of a whole training, and its last state."""
    session = Session(Fidelity(epochs, **fidelity))
    reports = list(train(trainable, {"batch_size": 16, "lr": 0.02, **(config or {})}, session))
    return reports, session.capture()


def curve(reports):
    """Everything reported but the times."""
    return [{k: v for k, v in r.metrics.items() if not k.startswith("time/")} for r in reports]


class Recorder(nn.Module):
    """Passes its input on, and remembers the rows it saw: (is training, first feature of each row)."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.seen = inner, []

    def forward(self, x):
        self.seen.append((self.training, x[:, 0].tolist()))
        return self.inner(x)


class Recorded(Blobs):
    def model(self, config, data):
        self.made = Recorder(super().model(config, data))
        return self.made

    def rows(self, training):
        return [batch for mode, batch in self.made.seen if mode is training]


def test_every_epoch_is_reported_with_all_keys_and_finite_numbers():
    reports, _ = run(Blobs(), epochs=3)
    assert [report.epoch for report in reports] == [1, 2, 3]
    for report in reports:
        assert report.metrics.keys() == KEYS
        assert all(type(v) is float and math.isfinite(v) for v in report.metrics.values())
        assert report.metrics["grad/norm"] > 0


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_it_learns_with_every_optimizer_in_every_precision(optimizer, precision):
    reports, _ = run(Blobs(), {"optimizer": optimizer, "precision": precision, "schedule": "cosine"}, epochs=5)
    assert reports[-1].metrics["val/accuracy"] > 0.9
    assert reports[-1].metrics["train/loss"] < reports[0].metrics["train/loss"]


def test_the_same_seed_repeats_bit_for_bit_and_another_does_not():
    (first, state), (again, same), (other, _) = (run(Blobs(), {"dropout": 0.3}, seed=s) for s in (1, 1, 2))
    assert curve(first) == curve(again)
    assert all(torch.equal(v, same["model"][k]) for k, v in state["model"].items())
    assert curve(first) != curve(other)


def test_arrays_and_a_dataset_of_the_same_rows_train_alike_bit_for_bit():
    config = {"dropout": 0.3, "schedule": "linear", "warmup_fraction": 0.2}
    assert curve(run(Blobs(), config)[0]) == curve(run(Blobs(as_dataset=True), config)[0])


def test_an_epoch_sees_every_training_row_once_in_a_new_order():
    trainable = Recorded(train=80)
    run(trainable, {"batch_size": 32})
    batches = trainable.rows(training=True)
    assert [len(batch) for batch in batches] == [32, 32, 16, 32, 32, 16]
    first, second = list(chain(*batches[:3])), list(chain(*batches[3:]))
    assert first != second
    assert sorted(first) == sorted(second)
    assert len(set(first)) == 80


def test_a_last_batch_of_one_row_is_left_out_of_training_only():
    trainable = Recorded(train=33, val=65)
    run(trainable, {"batch_size": 16}, epochs=3)  # BatchNorm raises on a single row
    assert [len(batch) for batch in trainable.rows(training=True)] == [16, 16] * 3
    left_out = {x for batch in trainable.rows(training=True)[:2] for x in batch}
    assert any(x not in left_out for batch in trainable.rows(training=True)[2:] for x in batch)
    assert sorted(len(batch) for batch in trainable.rows(training=False)) == [1, 1, 1, 33, 33, 33, 64, 64, 64]


def test_batches_of_one_row_are_all_trained_on():
    class Plain(Recorded):
        def model(self, config, data):
            self.made = Recorder(nn.Linear(8, 3))
            return self.made

    trainable = Plain(train=5, val=2)
    run(trainable, {"batch_size": 1}, epochs=1)
    assert [len(batch) for batch in trainable.rows(training=True)] == [1] * 5


def test_train_metrics_are_measured_on_fixed_training_rows_as_many_as_validation_has():
    trainable = Recorded(train=90, val=30)
    data = trainable.data({}, Fidelity(1))
    run(trainable, {"batch_size": 30})
    first_train, first_val, second_train, second_val = trainable.rows(training=False)
    assert first_train == second_train
    assert len(set(first_train)) == 30
    assert set(first_train) <= set(data.train[0][:, 0].tolist())
    assert first_val == second_val == data.val[0][:, 0].tolist()


def test_a_share_of_the_rows_is_the_same_for_all_seeds_and_keeps_validation_whole():
    rows = {}
    for seed in (1, 2):
        trainable = Recorded(train=90)
        run(trainable, {"batch_size": 8}, epochs=1, data_fraction=0.5, seed=seed)
        rows[seed] = list(chain(*trainable.rows(training=True)))
        assert {len(batch) for batch in trainable.rows(training=False)} == {30}
    assert len(rows[1]) == 45
    assert rows[1] != rows[2]
    assert sorted(rows[1]) == sorted(rows[2])


def test_what_is_measured_is_the_mean_over_rows_in_eval_mode():
    trainable = Blobs(val=29)
    reports, state = run(trainable, {"dropout": 0.5, "batch_size": 2})
    model = load_model(trainable, {"dropout": 0.5}, Fidelity(1), state)
    x, y = trainable.data({}, Fidelity(1)).val
    with torch.no_grad():
        assert reports[-1].metrics["val/loss"] == pytest.approx(F.cross_entropy(model(x), y).item(), rel=1e-5)
        accuracy = (model(x).argmax(1) == y).float().mean().item()
        assert reports[-1].metrics["val/accuracy"] == pytest.approx(accuracy)


def test_an_epoch_is_the_plain_loop_one_would_write():
    trainable = Recorded(train=40)
    reports, state = run(trainable, {"optimizer": "sgd", "lr": 0.1, "momentum": 0.9, "batch_size": 20}, epochs=1)
    by_feature = {x[0].item(): (x, y) for x, y in zip(*trainable.data({}, Fidelity(1)).train, strict=True)}
    torch.manual_seed(0)
    model = Blobs().model({}, None)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    norms = []
    for batch in trainable.rows(training=True):
        x, y = (torch.stack(part) for part in zip(*(by_feature[value] for value in batch), strict=True))
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        norms.append(torch.cat([p.grad.flatten() for p in model.parameters()]).norm().item())
        optimizer.step()
    for name, value in model.state_dict().items():
        assert torch.allclose(value, state["model"][f"inner.{name}"], atol=1e-6), name
    assert reports[0].metrics["grad/norm"] == pytest.approx(sum(norms) / 2, rel=1e-4)


def test_the_average_follows_the_weights_and_is_what_is_measured_and_kept():
    config = {"optimizer": "sgd", "lr": 0.1, "batch_size": 20, "ema_decay": 0.75}
    trainable = Recorded(train=40)
    plain = run(Blobs(train=40), {**config, "ema_decay": 0.0}, epochs=1)[1]["model"]
    reports, state = run(trainable, config, epochs=1)
    for name, value in plain.items():
        assert torch.equal(value, state["model"][f"inner.{name}"]), "training itself goes on as without"
    by_feature = {x[0].item(): (x, y) for x, y in zip(*trainable.data({}, Fidelity(1)).train, strict=True)}
    torch.manual_seed(0)
    model = Blobs().model({}, None)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    average = None
    for batch in trainable.rows(training=True):
        x, y = (torch.stack(part) for part in zip(*(by_feature[value] for value in batch), strict=True))
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
        weights = {name: value.clone() for name, value in model.state_dict().items()}
        average = weights if average is None else {n: 0.75 * average[n] + 0.25 * w for n, w in weights.items()}
    kept = load_model(trainable, config, Fidelity(1), state)
    for name, value in kept.inner.state_dict().items():
        if value.is_floating_point():  # BatchNorm counts its batches, which nothing reads
            assert torch.allclose(value, average[name], atol=1e-6), name
    assert not torch.allclose(kept.inner.state_dict()["0.weight"], plain["0.weight"], atol=1e-3)

    x, y = trainable.data({}, Fidelity(1)).val
    with torch.no_grad():
        assert reports[-1].metrics["val/loss"] == pytest.approx(F.cross_entropy(kept(x), y).item(), rel=1e-5)
    on_val = evaluate_split(trainable, config, Session(Fidelity(1), state=state), "val")
    assert on_val.items() <= reports[-1].metrics.items()


@pytest.mark.parametrize("parts", [2, 3, 16])
def test_rows_in_parts_give_the_step_of_the_whole_batch(parts):
    """But for BatchNorm, which sees the rows of a part."""
    plain, whole = run(Line(), {"optimizer": "sgd"})
    reports, state = run(Line(), {"optimizer": "sgd", "accumulate": parts})
    for name, value in whole["model"].items():
        assert torch.allclose(state["model"][name], value, atol=1e-6), name
    assert [r.metrics["grad/norm"] for r in reports] == pytest.approx([r.metrics["grad/norm"] for r in plain], rel=1e-4)


def test_the_l1_penalty_pulls_matrices_towards_zero_and_is_not_in_the_reported_loss():
    config = {"optimizer": "sgd", "momentum": 0.0, "lr": 0.1, "batch_size": 40}
    _plain, free = run(Blobs(train=40), config, epochs=1)
    torch.manual_seed(0)
    begun = Blobs().model({}, None).state_dict()
    _, pulled = run(Blobs(train=40), {**config, "l1": 0.05}, epochs=1)
    for name, value in begun.items():
        if not name.endswith(("weight", "bias")):
            continue
        pull = 0.1 * 0.05 * value.sign() if value.ndim > 1 else torch.zeros_like(value)
        assert torch.allclose(pulled["model"][name], free["model"][name] - pull, atol=1e-6), name


def test_pruned_weights_are_zero_at_the_end_and_in_the_average():
    _, state = run(Blobs(), {"prune_rate": 0.5, "ema_decay": 0.9}, epochs=4)
    for kind, prefix in (("model", ""), ("average", "module.")):
        matrices = [value for name, value in state[kind].items() if value.ndim > 1 and name.startswith(prefix)]
        assert matrices
        assert all(float((m == 0).double().mean()) == pytest.approx(0.5, abs=0.03) for m in matrices)


class Rare(Blobs):
    """Blobs of which one class has few rows."""

    def data(self, config, fidelity):
        data = super().data(config, fidelity)
        x, y = data.train
        kept = (y > 0) | (torch.arange(len(y)) % 8 == 0)
        return Data((x[kept], y[kept]), data.val)


def test_balanced_classes_weigh_alike_whatever_their_rows():
    data = Rare().data({}, None)
    goal = objective(Rare(), resolve({"class_weights": "balanced"}), data.train[1])
    logits, classes = torch.randn(len(data.train[1]), 3), data.train[1]
    rows = F.cross_entropy(logits, classes, reduction="none")
    means = [rows[classes == k].mean() for k in classes.unique()]
    assert float(goal.training_loss(logits, data.train)) == pytest.approx(float(sum(means) / len(means)), rel=1e-5)
    assert float(goal.loss(logits, data.train)) == pytest.approx(float(rows.mean()), rel=1e-5)


def test_class_weights_need_classes():
    with pytest.raises(TrainableError, match=r"class_weights is balanced, but the training targets are of shape"):
        run(Line(), {"class_weights": "balanced"})


class Stalls(Blobs):
    """One whose validation loss is given, epoch by epoch; the model's weights tell which epoch it is."""

    def __init__(self, losses):
        super().__init__()
        self.losses = losses

    def model(self, config, data):
        class Counter(nn.Module):
            def __init__(self):
                super().__init__()
                self.weight = nn.Parameter(torch.zeros(2, 2))
                self.register_buffer("epochs", torch.tensor(0))

            def train(self, mode=True):
                if mode and not self.training:
                    self.epochs += 1
                return super().train(mode)

            def forward(self, x):
                return x[:, :1] * 0 + self.weight.sum() * 0 + self.epochs

        return Counter().eval()

    def loss(self, output, batch):
        return output.mean() * 0 + self.losses[int(output[0]) - 1]

    def metrics(self, output, batch):
        return {}


def test_patience_ends_the_trial_with_its_best_weights():
    losses = [5.0, 3.0, 4.0, 4.0, 4.0, 1.0]
    reports, state = run(Stalls(losses), {"patience": 3, "restore_best": True}, epochs=6)
    assert [r.metrics["val/loss"] for r in reports] == [5.0, 3.0, 4.0, 4.0, 3.0], "the last is that of the best weights"
    assert [r.done for r in reports] == [False] * 4 + [True]
    assert int(state["model"]["epochs"]) == 2
    reports, state = run(Stalls(losses), {"restore_best": True}, epochs=5)
    assert [r.metrics["val/loss"] for r in reports] == [5.0, 3.0, 4.0, 4.0, 3.0], "also at the fidelity's end"
    reports, state = run(Stalls(losses), {"patience": 3}, epochs=6)
    assert [r.metrics["val/loss"] for r in reports] == [5.0, 3.0, 4.0, 4.0, 4.0]
    assert int(state["model"]["epochs"]) == 5


def test_a_plateau_lowers_the_rate_and_ends_the_trial():
    config = {"schedule": "plateau", "plateau_patience": 0, "plateau_factor": 0.1, "plateau_floor": 0.05, "lr": 0.5}
    reports, _ = run(Stalls([1.0] * 9), config, epochs=9)
    assert [r.metrics["hp/lr"] for r in reports] == pytest.approx([0.5, 0.5, 0.05, 0.025])
    assert [r.done for r in reports] == [False, False, False, True]


def test_an_average_begins_at_the_weights_of_a_state_without_one():
    _, state = run(Blobs(), epochs=1)
    session = Session(Fidelity(2), state=state)
    list(train(Blobs(), {"batch_size": 16, "lr": 1e-9, "ema_decay": 0.5}, session))
    for name in (name for name, _ in Blobs().model({}, None).named_parameters()):
        assert torch.allclose(session.capture()["average"][f"module.{name}"], state["model"][name], atol=1e-6)


def test_the_schedule_runs_over_all_steps_of_the_fidelity():
    # 90 rows, batches of 16: 6 steps an epoch, 12 in all; the last step of epoch 1 is step 5, of epoch 2 step 11.
    reports, _ = run(Blobs(), {"schedule": "linear", "lr": 0.012})
    assert [r.metrics["hp/lr"] for r in reports] == pytest.approx([0.012 * 7 / 12, 0.012 / 12])
    reports, _ = run(Blobs(), {"lr": 0.013, "warmup_fraction": 0.99})
    assert [r.metrics["hp/lr"] for r in reports] == pytest.approx([0.013 * 6 / 12, 0.013])


def test_clipping_bounds_the_step_and_the_reported_norm_is_the_one_before():
    def moved(**config):
        reports, state = run(Line(), {"optimizer": "sgd", "momentum": 0, "lr": 1, "batch_size": 80, **config}, 1)
        torch.manual_seed(0)
        start = torch.cat([p.detach().flatten() for p in nn.Linear(1, 1).parameters()])
        end = torch.cat([state["model"]["weight"].flatten(), state["model"]["bias"]])
        return (end - start).norm().item(), reports[0].metrics["grad/norm"]

    free, norm = moved()
    clipped, same_norm = moved(clip_norm=0.01)
    assert free == pytest.approx(norm, rel=1e-4)
    assert clipped == pytest.approx(0.01, rel=1e-3)
    assert norm == same_norm


def test_label_smoothing_changes_the_training_but_is_not_in_the_reported_loss():
    trainable = Blobs()
    reports, state = run(trainable, {"label_smoothing": 0.3}, epochs=4)
    plain, _ = run(trainable, {}, epochs=4)
    assert reports[-1].metrics["val/loss"] > plain[-1].metrics["val/loss"]
    x, y = trainable.data({}, Fidelity(1)).val
    with torch.no_grad():
        output = load_model(trainable, {}, Fidelity(1), state)(x)
    assert reports[-1].metrics["val/loss"] == pytest.approx(F.cross_entropy(output, y).item(), rel=1e-5)


def test_float_targets_get_squared_error_and_mae_whatever_the_trailing_dimension():
    reports, state = run(Line(), {"lr": 0.1}, epochs=20)
    assert {"val/loss", "val/mae", "train/mae"} <= reports[-1].metrics.keys()
    assert reports[-1].metrics["val/loss"] < 0.01
    assert state["model"]["weight"].item() == pytest.approx(2, abs=0.2)


def test_a_loss_and_metrics_of_ones_own_replace_the_defaults():
    class Own(Blobs):
        def loss(self, output, batch):
            return F.cross_entropy(output, batch[1]) * 0 + output.square().mean()

        def metrics(self, output, batch):
            return {"rows": torch.tensor(float(len(batch[1]))), "size": output.abs().mean()}

    reports, _ = run(Own(val=70), epochs=3)
    assert {"val/loss", "val/rows", "val/size"} <= reports[0].metrics.keys()
    assert "val/ece" not in reports[0].metrics, "the outputs need not be logits"
    assert reports[-1].metrics["val/loss"] < reports[0].metrics["val/loss"]
    # Two evaluation batches, of 64 rows and of 6, each counted by its rows.
    assert reports[0].metrics["val/rows"] == pytest.approx((64 * 64 + 6 * 6) / 70)


def test_a_loss_that_is_not_finite_ends_the_epoch_and_the_trial_without_an_exception():
    class Breaks(Recorded):
        steps = 0

        def loss(self, output, batch):
            if self.made.training:
                self.steps += 1
            return F.cross_entropy(output, batch[1]) * (math.nan if self.steps == 20 else 1)

    trainable = Breaks(train=900)
    reports, _ = run(trainable, {"batch_size": 10}, epochs=3)
    assert [report.epoch for report in reports] == [1]
    assert math.isnan(reports[0].metrics["train/loss"])
    assert not math.isfinite(reports[0].metrics["val/loss"])
    assert 20 <= trainable.steps < 90
    assert trainable.rows(training=False) == []


@pytest.mark.parametrize("trainable", [Line(), Blobs(train=80)], ids=["numbers", "classes"])
def test_weights_that_break_at_the_last_step_are_seen_in_the_same_report(trainable):
    reports, _ = run(trainable, {"optimizer": "sgd", "lr": 1e30, "batch_size": 80}, epochs=5)
    assert len(reports) == 1
    assert not math.isfinite(reports[0].metrics["train/loss"])


def test_fp16_skips_an_overflowing_step_and_reports_a_finite_norm():
    class Steep(Line):
        def loss(self, output, batch):
            return (output[:, 0].float() - batch[1]).square().mean() * 100

    reports, state = run(Steep(), {"optimizer": "sgd", "precision": "fp16", "lr": 1e-5, "batch_size": 8}, epochs=1)
    assert math.isfinite(reports[0].metrics["grad/norm"])
    assert state["scaler"][0] < 65536


@pytest.mark.parametrize("clip_norm", [None, 0.1])
def test_gradients_in_fp16_are_measured_and_clipped_unscaled(clip_norm):
    config = {"optimizer": "sgd", "clip_norm": clip_norm}
    (exact, full), (near, half) = (run(Blobs(), {**config, "precision": p}, epochs=1) for p in ("fp32", "fp16"))
    assert near[0].metrics["grad/norm"] == pytest.approx(exact[0].metrics["grad/norm"], rel=0.05)
    for name in ("0.weight", "4.weight"):
        assert torch.allclose(half["model"][name], full["model"][name], atol=0.01), name


@pytest.mark.parametrize(
    ("trainable", "config", "fidelity", "message"),
    [
        (Blobs(), {"batch_size": 91}, {}, r"batch_size is 91, but there are only 90 training rows .*Lower"),
        (Blobs(), {"batch_size": 46}, {"data_fraction": 0.5}, r"is 46, .* only 45 .*0\.5 of 90.*raise data_fraction"),
        (Blobs(val=0), {}, {}, r"data\.val has no rows"),
        (Blobs(), {}, {"epochs": 0}, r"epochs is 0"),
        (Blobs(), {}, {"seed": -1}, r"seed is -1"),
        (Blobs(), {}, {"data_fraction": 0}, r"data_fraction is 0"),
        (Line(), {"label_smoothing": 0.1}, {}, r"label_smoothing is 0\.1, but the targets are floats"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_the_first_report(trainable, config, fidelity, message):
    with pytest.raises(TrainableError, match=message):
        run(trainable, config, **fidelity)


def made(**methods):
    return type("Made", (Blobs,), {name: lambda self, *a, f=f: f(*a) for name, f in methods.items()})()


@pytest.mark.parametrize(
    ("trainable", "config", "message"),
    [
        (made(loss=lambda o, b: o.sum()), {"label_smoothing": 0.1}, r"Made\.loss replaces the default loss"),
        (made(loss=lambda o, b: o.sum(1)), {}, r"Made\.loss returned of shape \(16,\), not a scalar"),
        (made(loss=lambda o, b: 1.0), {}, r"Made\.loss returned float, not a scalar"),
        (made(metrics=lambda o, b: {"loss": o.mean()}), {}, r"metrics\(\) returned a 'loss'"),
        (made(metrics=lambda o, b: {"rows": o}), {}, r"'rows' of shape \(30, 3\), not a scalar"),
        (made(model=lambda c, d: nn.Flatten(0)), {}, "no parameter that requires a gradient"),
        (
            made(model=lambda c, d: nn.Sequential(nn.Linear(8, 1), nn.Flatten(0))),
            {},
            r"output of shape \(16,\) for int",
        ),
    ],
)
def test_what_a_trainable_returns_is_checked_and_named(trainable, config, message):
    with pytest.raises(TrainableError, match=message):
        run(trainable, config)


def test_outputs_that_would_broadcast_against_float_targets_are_refused():
    class Wide(Line):
        def model(self, config, data):
            return nn.Linear(1, 2)

    with pytest.raises(TrainableError, match=r"output of shape \(16, 2\) for float targets of shape \(16,\)"):
        run(Wide())


def test_a_split_is_evaluated_with_the_state_it_is_given():
    trainable = Blobs()
    reports, state = run(trainable, epochs=4)
    session = Session(Fidelity(4), state=state)
    config = {"batch_size": 16}
    on_val = evaluate_split(trainable, config, session, "val")
    assert on_val.items() <= reports[-1].metrics.items()
    on_test = evaluate_split(trainable, config, session)
    assert on_test.keys() == {"test/loss", "test/accuracy"}
    assert on_test["test/accuracy"] > 0.9
    assert evaluate_split(trainable, config, session, "train")["train/accuracy"] > 0.9


def test_evaluating_needs_a_state_and_a_split_that_exists():
    _, state = run(Line())
    with pytest.raises(TrainableError, match="no split 'test', only train, val"):
        evaluate_split(Line(), {}, Session(Fidelity(1), state=state), "test")
    with pytest.raises(TrainableError, match="state: there is none to measure"):
        evaluate_split(Line(), {}, Session(Fidelity(1)), "val")


def test_a_state_of_another_model_or_another_loop_is_refused():
    _, state = run(Line())
    with pytest.raises(TrainableError, match=r"does not fit Sequential"):
        next(train(Blobs(), {}, Session(Fidelity(2), state=state)))
    with pytest.raises(TrainableError, match=r"has no optimizer, rng: it was not saved by this loop"):
        next(train(Line(), {}, Session(Fidelity(2), state={"epoch": 1, "model": {}})))


def test_test_rows_are_never_read_while_training():
    class Guarded(Blobs):
        def data(self, config, fidelity):
            data = super().data(config, fidelity)

            class Test:
                def __len__(self):
                    return 3

                def __getitem__(self, row):
                    raise AssertionError("the test split was read")

            return Data(data.train, data.val, Test())

    assert len(run(Guarded())[0]) == 2
