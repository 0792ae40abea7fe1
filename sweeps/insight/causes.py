"""Why a check of preflight failed: the likeliest cause by all that was seen, in words with numbers.

Place in the flow: `soundness` judges each check by its own numbers; where one fails, its message ends with what is said
here, from the other probes and from the audit's numbers, where there was an audit. A cause that was seen by itself (no
gradient, inputs that are all the same) comes before one that is concluded from the loss.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sweeps.insight import audit as audits
from sweeps.insight.findings import listed

BLIND = 0.98
"""Inputs must lower the loss at least to this share of what is reached without them."""
FITTED, HARDLY = 0.1, 0.5
"""A batch is overfitted when its loss falls to a tenth; above half of it nothing was learned."""
UNSCALED = 10.0
"""The root mean square of inputs is 1 when they are standardised and 0.6 from 0 to 1; beyond this they are not."""
LARGE_OUTPUTS = 10.0
"""Outputs of an untrained network are of the size of 1."""
ROSE = 2.0
"""A loss that ends above so many times its lowest has risen again."""
FLOOR = 0.05
"""By this share a loss may miss the one that squeezed outputs cannot come below."""
MOST_FROZEN = 0.5
"""Of the matrices: above it what is trained is too little to learn much."""
RANDOM = 1e-3
"""Outputs in eval mode that differ by more of their spread are drawn; rounding is far below."""
EQUAL_SHARE = 0.5
"""Of the layers: a last one that begins at zero is usual."""
AGREES = 1.5
"""Labels of which quick classifiers foretell so many times as many as the most frequent one has belong to the rows."""


@dataclass(frozen=True)
class Seen:
    """All that was seen of a baseline: the numbers of `trainables.probes` and, where there are, `trainables.audit`."""

    probes: Mapping[str, Any]
    audit: Mapping[str, Any] = field(default_factory=dict)

    def number(self, name: str) -> float:
        """A number of the probes."""
        return float(self.probes[name])

    @property
    def soundness(self) -> Mapping[str, Any]:
        """What the network shows of itself."""
        found: Mapping[str, Any] = self.probes["soundness"]
        return found

    @property
    def scales(self) -> Mapping[str, Any]:
        """Sizes of inputs and outputs."""
        found: Mapping[str, Any] = self.probes["scales"]
        return found

    @property
    def overfits(self) -> bool:
        """Whether it learned one batch by heart."""
        return self.number("overfit_last") <= FITTED * self.number("overfit_first")


Clue = Callable[[Seen], str]
"""Its cause as a sentence or two, with what to do; empty where it is not the cause."""


def likeliest(clues: Iterable[Clue], seen: Seen) -> str:
    """What the first clue says that says anything."""
    return next((told for clue in clues if (told := clue(seen))), "")


# What was seen by itself.


def no_gradient(seen: Seen) -> str:
    broken, silent = seen.probes["non_finite_gradient"], seen.probes["without_gradient"]
    if broken:
        return f"The gradient is not finite in {listed(broken)}: mend that first."
    return f"No gradient reaches {listed(silent)}: mend that first." if silent else ""


def summed(seen: Seen) -> str:
    if seen.soundness["accumulating"]:
        return "Gradients add up, so that steps go by what is long over: mend zero_grad() or the hook."
    return ""


def constant(seen: Seen) -> str:
    if seen.scales["constant"]:
        return "The rows that were looked at all have the same inputs: is the right file read, the right column taken?"
    return ""


def alike(seen: Seen) -> str:
    equal, matrices = seen.soundness["equal_units"], seen.soundness["matrices"]
    if len(equal) > EQUAL_SHARE * matrices:
        return f"In {len(equal)} of {matrices} layers all units begin alike and stay alike: draw weights at random."
    return ""


def mostly_frozen(seen: Seen) -> str:
    frozen, matrices = seen.soundness["frozen"], seen.soundness["matrices"]
    if len(frozen) > MOST_FROZEN * matrices:
        return f"{len(frozen)} parameters are frozen, among them {listed(frozen)}: set requires_grad where it is off."
    return ""


def random_in_eval(seen: Seen) -> str:
    if (apart := seen.soundness["random_in_eval"]) > RANDOM:
        return f"In eval mode outputs are drawn anew (by {apart:.2g} of their spread): eval() does not reach a layer."
    return ""


def unscaled(seen: Seen) -> str:
    size = seen.scales["inputs"]
    if size is not None and not size <= UNSCALED:
        told = f"The inputs are unscaled, of a root mean square of {size:.4g}: standardise them by the training rows."
    elif seen.audit and (found := list(audits.unscaled_inputs(seen.audit))):
        told = f"The inputs are unscaled: {found[0].message}"
    else:
        return ""
    return told


def not_finite(seen: Seen) -> str:
    if seen.audit and (found := list(audits.non_finite(seen.audit))):
        return f"In the data {found[0].message}"
    size = seen.scales["inputs"]
    if size is not None and not math.isfinite(size):
        return "The inputs are not finite, or enormous: fill in what is missing, and standardise."
    return ""


def large_outputs(seen: Seen) -> str:
    outputs, inputs = seen.scales["outputs"], seen.scales["inputs"]
    if outputs is None or not outputs > LARGE_OUTPUTS:
        return ""
    of = f" from inputs of {inputs:.2g}" if inputs is not None else ""
    return (
        f"Untrained outputs have a root mean square of {outputs:.3g}{of}: the last layer's weights are huge, or "
        "signals grow from layer to layer. Draw smaller weights, or put norms in between."
    )


def squeezed(seen: Seen) -> str:
    """Outputs from 0 to 1 in a loss for logits: of K classes the loss cannot come below ln(1 + (K - 1) / e)."""
    if seen.scales["probabilities"] and not seen.probes["own_loss"]:
        return "The outputs are probabilities, and the loss applies softmax again: return logits."
    classes = seen.scales["classes"]
    if classes is None:
        return ""
    floor, last = math.log1p((classes - 1) / math.e), seen.number("overfit_last")
    if abs(last - floor) <= FLOOR * floor and last < seen.number("overfit_first"):
        return (
            f"It stays at {floor:.3g}, the least that {classes} outputs from 0 to 1 can have in a loss for logits: "
            "a softmax or sigmoid too many. Return logits, or leave it out of the loss."
        )
    return ""


# What is concluded from losses.


def alike_for_all(seen: Seen) -> str:
    """A batch's loss that is left where one output for all rows would leave it."""
    floor, last = seen.probes["overfit_floor"], seen.number("overfit_last")
    if not floor or abs(last - floor) > FLOOR * floor or last > BLIND * seen.number("overfit_first"):
        return ""
    return (
        f"One batch's loss comes to {last:.3g}, the least with one output for all rows ({floor:.3g}): the inputs are "
        "lost on the way. Are units dead or saturated, the first layers given nothing?"
    )


def fell_and_rose(seen: Seen) -> str:
    first, lowest, last = (seen.number(f"overfit_{name}") for name in ("first", "lowest", "last"))
    if not (lowest < BLIND * first and last > ROSE * lowest):
        return ""
    more = f" {found}" if (found := unscaled(seen) or large_outputs(seen)) else " Scale inputs, or put in norms."
    return f"It fell to {lowest:.4g} and rose again: steps of a usual size are too large for this network.{more}"


def still_falling(seen: Seen) -> str:
    first, lowest, last = (seen.number(f"overfit_{name}") for name in ("first", "lowest", "last"))
    if lowest == last < BLIND * first:
        return (
            f"It still fell after {seen.probes['overfit_steps']} steps: something damps outputs or gradients. Outputs "
            "divided by a number, saturated units, a network that is too small? Or steps are slow, and were few."
        )
    return ""


def diverged(seen: Seen) -> str:
    if math.isfinite(seen.number("learned_loss")):
        return ""
    more = unscaled(seen) or large_outputs(seen) or "Is there a logarithm, a root or a division that meets a zero?"
    return f"It became infinite or no number, at each of several rates and with clipped gradients. {more}"


def only_in_training(seen: Seen) -> str:
    trained, blind = seen.number("learned_in_training"), seen.number("blind_loss")
    if trained < BLIND * blind:
        return (
            f"In train mode the loss came to {trained:.4g}, so the network learns, but not as it is in eval mode: are "
            "running statistics wrong, or does eval() change what is computed?"
        )
    return ""


def labels_elsewhere(seen: Seen) -> str:
    if not seen.overfits:
        return ""
    first, last = seen.number("overfit_first"), seen.number("overfit_last")
    heart = f"It learns one batch by heart ({first:.3g} to {last:.3g}), so network and loss work"
    agreement, majority = seen.audit.get("label_errors", {}).get("agreement"), seen.scales["majority"]
    if agreement is not None and majority is not None:
        if agreement > AGREES * majority:
            return (
                f"{heart}, and quick classifiers foretell {agreement:.0%} of the labels from these inputs: the network "
                "loses what matters in them. Look at what its first layers are given."
            )
        heart += f", and quick classifiers agree with {agreement:.0%} of the labels only"
    return f"{heart}: the labels do not belong to their inputs. Shuffled, moved by a row, sorted apart, or of chance?"


def said(sentence: str) -> Clue:
    """What is said where nothing else was seen."""
    return lambda seen: sentence


def in_one_split(seen: Seen) -> str:
    """Why what is learned from training rows says nothing of validation rows, where the audit tells."""
    agreement, majority = seen.audit.get("label_errors", {}).get("agreement"), seen.scales["majority"]
    if agreement is None or majority is None:
        return ""
    told = f"Quick classifiers foretell {agreement:.0%} of the training labels from their rows"
    if agreement > AGREES * majority:
        return f"{told}, so those belong to them: in validation labels are numbered otherwise, moved or shuffled."
    return f"{told}, and {majority:.0%} have the most frequent one: the training labels are shuffled, or chance."


NETWORK: tuple[Clue, ...] = (constant, alike, no_gradient, summed)
"""What keeps a network from learning anything."""
UNREACHED = (constant, alike)
NOT_FINITE = (not_finite, said("Are there NaN or infinite inputs or targets, or inputs of enormous scale?"))
TOO_HIGH = (unscaled, large_outputs, said("Are the inputs or targets unscaled, or the last layer's weights huge?"))
NO_OVERFIT = (
    *NETWORK, squeezed, fell_and_rose, alike_for_all, mostly_frozen, unscaled, still_falling,
    said("Does the loss fit the output (softmax twice, wrong axis), and is every layer trained?"),
)  # fmt: skip
NOT_LEARNING = (
    *NETWORK, diverged, random_in_eval, only_in_training, unscaled, labels_elsewhere, squeezed, alike_for_all,
    mostly_frozen, still_falling,
    said("Are labels and inputs out of step, inputs constant, or does the network drop them?"),
)  # fmt: skip
NOT_CARRIED = (
    in_one_split,
    said("Are labels shuffled or moved in one of the splits, the splits of different sources, the data chance?"),
)
