"""Rules on what training and validation say of each other."""

from __future__ import annotations

import numpy as np

from sweeps.insight import audit as audits
from sweeps.insight.diagnose.given import chance
from sweeps.insight.diagnose.rule import (
    at_the_end,
    known_task,
    luck,
    middle_of_three,
    sampling,
    steady,
    suspected,
    warned,
)
from sweeps.insight.findings import Finding
from sweeps.insight.losses import Values, end, smooth
from sweeps.insight.runs import Lacking, Run
from sweeps.insight.thresholds import LIMITS


def labels(run: Run) -> Finding | None:
    """What is learned in training does not hold in validation at all."""
    train, val, prior = end(run.train), end(run.val), run.prior
    if run.val_gain > LIMITS.half or val < prior * (1 - LIMITS.learned):
        return None
    if run.gain < LIMITS.learned / 2 and not chance(run):
        return None
    if turned(run):
        message = (
            f"the train loss falls to {train:.4g} and the validation loss rises to {val:.4g}, where knowing nothing "
        )
        mend = f"has {prior:.4g}: the splits' labels mean different things. Compare how both are read and coded."
        return warned("labels_differ", message + mend, train=train, val=val)
    if run.val_gain > LIMITS.hardly or (right_in_validation(run) and not known_task(run)):
        return None  # something held, before it was lost again
    if not known_task(run) and not run.has("train/accuracy") and run.val.min() < (1 - LIMITS.hardly) * run.val[0]:
        return None  # as far as losses alone can tell
    if len(run.shares) and run.rows.get("train", 0) < audits.FEW_ROWS * len(run.shares):
        return None  # so few rows say nothing of others, whatever their labels: `little_data`
    # Losses before anything was learned are not the same in both splits, and may be beyond all measure.
    fell, val_fell = (
        min(float(values[0]), LIMITS.at_first * prior) - level for values, level in ((run.train, train), (run.val, val))
    )
    if fell <= 0 and not chance(run):
        return None  # nothing was learned by heart either
    if run.gain < LIMITS.learned / 2:
        follows = steady(run.train) > LIMITS.steady and at_the_end(run)
    else:
        follows = val_fell > LIMITS.carried * fell
    if follows:
        return None
    if run.has("train/accuracy") and apart_slowly(run):
        message = f"the train loss falls to {train:.4g} while the validation loss rises to {val:.4g}, never far "
        mend = f"below its first {run.val[0]:.4g}: rows are learned by heart. Do labels belong to their rows?"
        return warned("labels_shuffled", message + mend, train=train, val=val)
    # Losses of rows of classes are much alike where nothing is learned that holds, squares of numbers never.
    by_luck = 0.0 if run.has("train/accuracy") else LIMITS.errors * float(luck(run, train))
    apart = val > (LIMITS.apart + by_luck) * train and val - train > (1 - LIMITS.hardly) * (prior - train)
    if (apart and train < prior) or (chance(run) and run.gain < LIMITS.half):
        message = (
            f"the train loss falls to {train:.4g}, the validation loss never below {run.val.min():.4g}, and knowing "
        )
        mend = f"nothing has {prior:.4g}: rows are learned by heart. Do labels belong to their rows?"
        return warned("labels_shuffled", message + mend, train=train, val=float(run.val.min()))
    return None


def right_in_validation(run: Run) -> bool:
    """Whether far more validation rows are right at the end than of one class of all."""
    if not (run.has("val/accuracy") and run.has("train/accuracy")):
        return False
    usual = float(run.shares.max()) if len(run.shares) else 1 / run.classes
    return end(run.known("val/accuracy")) > LIMITS.chances * usual


def apart_slowly(run: Run) -> bool:
    """Whether the train loss falls a little while the validation loss, of which hardly anything was gained, rises."""
    train, val = end(run.train), end(run.val)
    fell = float(run.train[0]) - train > LIMITS.rise * run.prior
    rose = val > max((1 + LIMITS.rise) * float(middle_of_three(smooth(run.val)).min()), float(run.val[0]))
    return fell and rose and val - train > 2 * LIMITS.rise * run.prior


def turned(run: Run) -> bool:
    """Whether what is learned is wrong in validation, rather than of no use: right less often than by chance; without
    an accuracy, a loss that rises as the other falls from the first on."""
    train, val = end(run.train), end(run.val)
    if val <= LIMITS.above * run.prior:
        return False
    if run.has("val/accuracy"):
        by_chance = float((run.shares**2).sum()) if len(run.shares) else 1 / run.classes
        return end(run.known("val/accuracy")) < by_chance - min(2 / 3 * sampling(run, by_chance), by_chance / 2)
    return train < LIMITS.unexplained * run.prior and run.val.min() > (1 - LIMITS.hardly) * run.val[0]


def label_noise(run: Run) -> Finding | None:
    """Validation is better than training, measured alike, before rows are learned by heart."""
    train = run.train_then.copy()
    counts = (train > LIMITS.learned * run.prior) & (train < run.prior) & (run.val > 0)
    others = not run.rows and not run.has("val/max_probability")
    if others:
        # Of others' tables the train loss may be a moving network's, with dropout in it: only the end says something,
        # and the loss that the fall of an epoch leads to.
        counts[: -max(3, len(counts) // 10)] = False
        train = train - np.maximum(-np.diff(train, prepend=train[0]), 0)
        counts &= train > 0
    middle = lasting(np.divide(run.val, train, out=np.full(len(train), np.inf), where=counts))
    bound = np.minimum(LIMITS.better_val, 1 - LIMITS.errors * luck(run, train))
    place = int((middle - bound).argmin())
    if middle[place] >= bound[place] and not righter(run):
        return None
    if middle[place] > 1:
        return None
    val, then, epoch = float(run.val[place]), float(train[place]), int(run.at("val/loss")[place])
    alike = "unless dropout or augmentation raise that" if others else "measured alike"
    message = f"the validation loss ({val:.4g}) is below the train loss ({then:.4g}) in epoch {epoch}, {alike}: "
    mend = "the training rows are harder. Are some of their labels wrong, or are they of another source?"
    return warned("label_errors", message + mend, train=then, val=val, epoch=epoch)


def righter(run: Run) -> bool:
    """Whether validation rows are right more often than training rows, beyond chance, over three epochs."""
    if not (run.has("train/accuracy") and run.has("val/accuracy")):
        return False
    val = run.known("val/accuracy")
    train = np.interp(run.at("val/accuracy"), run.at("train/accuracy"), run.known("train/accuracy"))
    share = (train + val) / 2
    error = np.sqrt(2 * share * (1 - share) / run.rows.get("val", LIMITS.usual_val_rows))
    return bool((-lasting(-(val - train - LIMITS.errors * error))).max() > 0) if len(val) > 2 else False


def lasting(values: Values) -> Values:
    """The highest of each value and its neighbours: what holds over three epochs, or over all where they are fewer."""
    if len(values) < 3:
        return np.full(len(values), values.max())
    return np.pad(np.maximum(np.maximum(values[:-2], values[1:-1]), values[2:]), 1, mode="edge")


def overfit(run: Run) -> Finding | None:
    """The validation loss rises while the train loss still falls."""
    # One lucky epoch is no level.
    val = middle_of_three(smooth(run.val))
    place, last = int(val.argmin()), end(run.val)
    lowest = float(val[place])
    if len(val) < 4 or place >= LIMITS.early * (len(val) - 1):
        return None
    # Of what was gained in validation a part is lost again. Where nothing was, the prior is the measure.
    losses_alone = not known_task(run) and not run.has("train/accuracy")
    prior = max(run.prior, float(run.val[0])) if losses_alone else run.prior
    gained = max(prior - lowest, LIMITS.hardly * prior)
    lost = (last - lowest) / gained
    falls = end(run.train) < float(run.train_then[place])
    least = LIMITS.lost / (2 if last > LIMITS.risen_far * lowest else 1)
    if not falls or last <= LIMITS.risen * lowest or lost < least:
        return None
    if lowest > (1 - LIMITS.learned) * prior:
        return None  # there was nothing to lose
    early = place < LIMITS.best_early * (len(val) - 1)  # most of the time was spent after the best
    if lost < (LIMITS.lost_early if early else LIMITS.lost_for_sure) and kept(run, place):
        return None
    nearby = max(0, place - 2)
    place = nearby + int(run.val[nearby : place + 3].argmin())
    lowest, epoch = float(run.val[place]), int(run.at("val/loss")[place])
    message = f"the validation loss rose from {lowest:.4g} in epoch {epoch} to {last:.4g}; the train loss fell on. "
    mend = "Add augmentation, dropout or weight decay, end at that epoch, or gather more rows."
    return warned("overfit", message + mend, epoch=epoch, lowest=lowest, val=last, lost=lost)


def kept(run: Run, place: int) -> bool:
    """Whether the accuracy in validation is as good at the end as it was at that epoch: only the probabilities have
    become too sure, which costs no decision."""
    if not run.has("val/accuracy"):
        return False
    accuracy = run.known("val/accuracy")
    then = float(np.interp(run.at("val/loss")[place], run.at("val/accuracy"), smooth(accuracy)))
    return end(accuracy) > then - 2 / 3 * sampling(run, then)


def little_data(run: Run) -> Finding | None:
    """Few rows, all learned by heart, and validation far worse."""
    if not run.rows:
        raise Lacking("audit")
    train, val = end(run.train), end(run.val)
    few, parts = list(audits.few_rows(run.audit)), len(run.shares) or run.audit.get("columns", 0)
    told = f"the train loss falls to {train:.3g}, the validation loss stays at {val:.3g}: "
    if few and train < LIMITS.low * run.prior and val > LIMITS.far_apart * train:
        return warned("too_little_data", told + few[0].message, **few[0].evidence)
    rows = run.rows.get("train", 0)
    if not parts or rows / parts > LIMITS.few_of_a_part or val < LIMITS.missed * run.prior or wrong(run) < LIMITS.low:
        return None
    if val > LIMITS.by_heart * train or (not len(run.shares) and val > LIMITS.gap_open * train):
        message = f"{told}{rows:,} training rows are few. {MORE}"
        return warned("too_little_data", message, train=train, val=val, rows=rows)
    return None


MORE = "Gather more, augment them, or warm-start from a network that knows such rows."


def by_heart(run: Run) -> Finding | None:
    """The train loss near 0, and validation far worse, of who knows how many rows."""
    train, val = (float(np.median(values[-max(1, len(values) // 3) :])) for values in (run.train, run.val))
    near_0 = val > max(LIMITS.by_heart * train, LIMITS.missed * run.prior)
    far_apart = val > max(LIMITS.far_apart * train, LIMITS.little * run.prior) and train < LIMITS.little * run.prior
    if run.rows or not (near_0 or far_apart) or wrong(run) < LIMITS.low:
        return None
    message = f"the train loss falls to {train:.3g}, the validation loss stays at {val:.3g}: rows are few. {MORE}"
    told = warned if near_0 else suspected  # a gap alone may be all that the task allows
    return told("too_little_data", message, train=train, val=val)


def wrong(run: Run) -> float:
    """The share of validation rows that are wrong at the end; 1 where it is not known."""
    return 1 - end(run.known("val/accuracy")) if run.has("val/accuracy") else 1.0
