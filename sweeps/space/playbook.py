"""The ranges that the playbook ships for the standard hyperparameters, each with where it comes from.

A parameter that the spec names without a domain (`lr:`) takes its entry; plan and report show the source.

S1: 【深度学习日记】调参侠指南 (a practitioner's guide). S2: 调参经验 (tuning experience, Flowerowl). PB: Google's Deep
Learning Tuning Playbook (https://github.com/google-research/tuning_playbook).
"""

from __future__ import annotations

from sweeps.space.domains import Choice, Domain, Float, Int, PowersOfTwo

PLAYBOOK: dict[str, Domain] = {
    "lr": Float(range=(1e-5, 1e-1), scale="log", source="playbook: S1 1e-4…1e-3 and S2 1e-5…1e-2, with margin"),
    "batch_size": PowersOfTwo(range=(16, 128), source="playbook: S1 32…128, S2 16…128, powers of two"),
    "optimizer": Choice(choice=("sgd", "adamw"), source="playbook: S1; PB: tune each before comparing them"),
    "momentum": Float(range=(0.8, 0.999), scale="one_minus", source="playbook: PB, 1−m logarithmic in 1e-3…0.2"),
    "beta2": Float(range=(0.9, 0.999), scale="one_minus", source="playbook: PB, β₂ in 0.9…0.999"),
    "weight_decay": Float(
        range=(1e-6, 1e-1), scale="log", or_zero=True, source="playbook: S1 1e-4 and 5e-4, with margin"
    ),
    "dropout": Float(range=(0.1, 0.5), or_zero=True, source="playbook: S1 0.2…0.5; S2: always compare with none"),
    "label_smoothing": Float(range=(0.0, 0.2), source="playbook: usual range 0…0.2"),
    "l1": Float(range=(1e-7, 1e-4), scale="log", or_zero=True, source="playbook: S2 lists it"),
    "prune_rate": Float(range=(0.0, 0.9), source="playbook: S2 lists it"),
    "augment": Int(range=(0, 3), source="playbook: levels, none first"),
    "schedule": Choice(
        choice=("constant", "step", "cosine", "linear", "exponential", "plateau", "one_cycle"),
        source="playbook: S1 step and cosine, S2 decay and on plateau",
    ),
    "warmup_fraction": Float(range=(0.0, 0.1), source="playbook: S1 warmup, as a share of all steps"),
    "activation": Choice(
        choice=("relu", "leaky_relu", "gelu"), source="playbook: S1, ReLU first, others for dead units"
    ),
    "norm": Choice(choice=("batch", "group"), source="playbook: S1; group norm for small batches"),
}
