"""The spec: every bad input is told with key, file, line and mend; YAML and Python mean the same."""

from __future__ import annotations

import pytest

from sweeps.errors import SpecError
from sweeps.resume import accepted, replayed
from sweeps.space import Space
from sweeps.spec import SweepSpec, name_of, phase_name, read_spec

GOOD = """\
# A sweep of a small network.
trainable: my_model:Digits
space:
  lr: {log: [1e-4, 1e-1]}
  batch_size:
  optimizer: [sgd, adamw]
  sgd.momentum:
metric: val/accuracy
mode: max
baseline: {lr: 1e-3, batch_size: 32, optimizer: adamw}
phases:
  - kind: explore
    trials: 12
  - {kind: refine, trials: 6, reduction_factor: null}
  - {kind: confirm, top: 1}
resources:
  concurrency: 2
budget: {hours: 0.5}
seed: 7
"""
MINIMAL = {"trainable": "my_model:Digits", "space": {"lr": None}}


@pytest.fixture
def file(tmp_path):
    """Write text as a spec's file and return its path."""

    def write(text: str, name: str = "digits.yaml"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_a_spec_from_yaml_equals_the_one_from_python(file):
    built = SweepSpec(
        name="digits",
        trainable="my_model:Digits",
        space=Space(
            {"lr": {"log": (1e-4, 1e-1)}, "batch_size": None, "optimizer": ["sgd", "adamw"], "sgd.momentum": None}
        ),
        metric="val/accuracy",
        mode="max",
        baseline={"lr": 1e-3, "batch_size": 32, "optimizer": "adamw"},
        phases=(
            {"kind": "explore", "trials": 12},
            {"kind": "refine", "trials": 6, "reduction_factor": None},
            {"kind": "confirm", "top": 1},
        ),
        resources={"concurrency": 2},
        budget={"hours": 0.5},
        seed=7,
    )
    read = read_spec(file(GOOD))
    assert read == built
    assert read.digest == built.digest


def test_the_document_gives_the_same_spec_again(file):
    spec = read_spec(file(GOOD))
    again = SweepSpec.model_validate(spec.document())
    assert again == spec
    assert again.digest == spec.digest
    assert spec.model_copy(update={"seed": 8}).digest != spec.digest


@pytest.mark.parametrize(("written", "value"), [("1e-3", 1e-3), ("1E5", 1e5), ("1.5e+2", 150.0), (".5", 0.5)])
def test_a_number_with_an_exponent_is_a_number(file, written, value):
    """YAML 1.1, which most readers speak, makes `1e-3` a string."""
    spec = read_spec(file(f"trainable: a:b\nspace: {{lr: , x: {written}}}\nbaseline: {{x: {written}}}\n"))
    assert spec.space["x"].constant == value
    assert type(spec.space["x"].constant) is float
    assert type(spec.baseline["x"]) is float


def test_values_from_a_file_are_plain_python(file):
    spec = read_spec(file('trainable: a:b\nspace: {lr: , flag: [true, false], text: "a", none: [null, x], n: 0x10}\n'))
    assert spec.space["flag"].choice == (True, False)
    assert [type(v) for v in spec.space["flag"].choice] == [bool, bool]
    assert type(spec.space["text"].constant) is str
    assert spec.space["none"].choice == (None, "x")
    assert type(spec.space["n"].constant) is int


def test_a_spec_is_called_like_its_file_unless_it_says_otherwise(file):
    text = "trainable: a:b\nspace: {lr: }\n"
    assert read_spec(file(text)).name == "digits"
    assert read_spec(file(f"name: other\n{text}")).name == "other"
    assert read_spec(file(text), {"name": "third", "seed": 5}).name == "third"


def test_overrides_go_over_the_file(file):
    spec = read_spec(file(GOOD), {"seed": 9, "storage": "elsewhere"})
    assert (spec.seed, spec.storage, spec.metric) == (9, "elsewhere", "val/accuracy")


def test_defaults_are_audit_preflight_explore_refine_confirm():
    spec = SweepSpec.model_validate(MINIMAL)
    assert [phase.kind for phase in spec.phases] == ["audit", "preflight", "explore", "refine", "confirm"]
    assert spec.with_trials == spec.phases[2:]
    assert spec.tracking is None
    assert (spec.metric, spec.mode) == ("val/loss", "min")


class Local:
    """A trainable given as an object."""


def test_an_object_is_known_by_its_name():
    spec = SweepSpec(trainable=Local, space={"lr": None})
    assert spec.trainable is Local
    assert spec.document()["trainable"] == f"{__name__}:Local"
    assert name_of(Local()) == name_of(Local)
    assert name_of("a:b") == "a:b"


def test_a_spec_cannot_change():
    spec = SweepSpec.model_validate(MINIMAL)
    with pytest.raises(ValueError, match="frozen"):
        spec.seed = 3


def changed(old: str, new: str) -> str:
    """The good file with one place changed, which must be there."""
    assert old in GOOD
    return GOOD.replace(old, new)


BAD = {
    "low above high": (changed("[1e-4, 1e-1]", "[1e-1, 1e-4]"), "space.lr", 4, "low (0.1) is above high", "Swap"),
    "log of zero": (changed("[1e-4, 1e-1]", "[0, 1e-1]"), "space.lr", 4, "cannot begin at 0", "or_zero"),
    "unknown parent": (
        changed("  sgd.momentum:\n", "  x: {float: [0, 1], when: {optimiser: sgd}}\n"),
        "space.x.when",
        7,
        "unknown parameter 'optimiser'",
        "Did you mean optimizer?",
    ),
    "unknown value": (
        changed("  sgd.momentum:\n", "  x: {float: [0, 1], when: {optimizer: adam}}\n"),
        "space.x.when.optimizer",
        7,
        "'adam' is not a value of optimizer (sgd | adamw)",
        "one of its values",
    ),
    "unknown prefix": (changed("sgd.mom", "adam.mom"), "space.adam.momentum", 7, "value 'adam'", "Add adam"),
    "not in the playbook": (changed("batch_size:\n", "batchsize:\n"), "space.batchsize", 5, "no domain", "batch_size?"),
    "unknown key": (changed("metric:", "metrc:"), "metrc", 8, "unknown key", "Did you mean metric?"),
    "unknown key of a phase": (changed("trials: 12", "trails: 12"), "phases[0].trails", 13, "unknown key", "trials?"),
    "unknown key of resources": (changed("concurrency", "slots"), "resources.slots", 17, "unknown key", "workers"),
    "unknown key of a domain": (
        changed("{log: [1e-4, 1e-1]}", "{log: [1e-4, 1e-1], orzero: true}"),
        "space.lr.orzero",
        4,
        "unknown key",
        "or_zero?",
    ),
    "unknown kind": (changed("kind: refine", "kind: refin"), "phases[1].kind", 14, "no kind", "Did you mean refine?"),
    "no kind": (changed("kind: refine, ", ""), "phases[1].kind", 14, "no kind of phase", "one of audit, confirm"),
    "wrong type": (changed("seed: 7", "seed: seven"), "seed", 19, "'seven' is not a whole number", "Write a whole"),
    "wrong type in a phase": (changed("trials: 12", "trials: some"), "phases[0].trials", 13, "is not a whole", "Write"),
    "a fraction": (changed("trials: 12", "trials: 2.5"), "phases[0].trials", 13, "2.5 is not a whole", "Write a whole"),
    "a text for a number": (changed("hours: 0.5", "hours: long"), "budget.hours", 18, "not a number", "Write a"),
    "a number for a text": (changed("metric: val/accuracy", "metric: 3"), "metric", 8, "3 is not a text", "a text"),
    "no list": (GOOD[: GOOD.index("phases:")] + "phases: explore\n", "phases", 11, "'explore' is not a list", "a list"),
    "a phase by its name": (GOOD[: GOOD.index("phases:")] + "phases: [explore]\n", "phases[0]", 11,
                            "'explore' is not a mapping", "key: value"),
    "a choice of lists": (changed("[sgd, adamw]", "[[1, 2], [3]]"), "space.optimizer.choice", 6,
                          "[1, 2] is not a single value", "List texts"),
    "a baseline in quotes": (changed("{lr: 1e-3", "{lr: '1e-3'"), "baseline.lr", 10, "'1e-3' is not a number", "Write"),
    "a huge seed": (changed("seed: 7", f"seed: {2**62}"), "seed", 19, "is not below", "Lower"),
    "a name with a space": (changed("{kind: refine, ", "{kind: refine, name: a b, "), "phases[1].name",
                            14, "'a b' has", "Match"),
    "share above its end": (changed("{kind: refine, ", "{kind: refine, data_fraction: 2, "), "phases[1].data_fraction",
                            14, "2 is above 1", "Lower"),
    "below its end": (changed("seed: 7", "seed: -7"), "seed", 19, "-7 is below 0", "Raise"),
    "no mapping": (changed("budget: {hours: 0.5}", "budget: 3"), "budget", 18, "3 is not a mapping", "key: value"),
    "a share in words": (changed("concurrency: 2", "gpus_per_worker: many"), "resources.gpus_per_worker", 17,
                         "'many' is not a number", "Write"),
    "auto without preflight": (changed("concurrency: 2", "gpus_per_worker: auto"), "resources.gpus_per_worker", 17,
                               "measured by preflight", "Put {kind: preflight}"),
    "sharded over one": (changed("concurrency: 2", "parallelism: fsdp"), "resources.parallelism", 17,
                         "several workers, and there is 1", "Raise workers"),
    "out of range": (changed("hours: 0.5", "hours: -1"), "budget.hours", 18, "-1 is not above 0", "Raise"),
    "wrong mode": (changed("mode: max", "mode: maximal"), "mode", 9, "not 'min' or 'max'", "Did you mean max?"),
    "no colon": (changed("my_model:Digits", "my_model"), "trainable", 2, "not of the form module:attr", "my_model:"),
    "same name twice": (
        changed("{kind: refine, ", "{kind: refine, name: explore, "),
        "phases[1].name",
        14,
        "two phases are called explore",
        "explore2",
    ),
    "refine first": (changed("- kind: explore", "- name: r\n    kind: refine"), "phases[0]", 12, "before it", "first"),
    "preflight late": (changed("- {kind: refine", "- {kind: preflight}\n  - {kind: refine"), "phases[1]", 14,
                       "comes after another", "first"),
    "audit late": (changed("- kind: explore", "- {kind: preflight}\n  - {kind: audit}\n  - kind: explore"),
                   "phases[1]", 13, "comes after another", "Put audit first"),
    "an unknown check": (changed("- kind: explore", "- {kind: preflight, skip: {gradient: none}}\n  - kind: explore"),
                         "phases[0].skip.gradient", 12, "is not 'initial_loss'", "Did you mean gradients?"),
    "no reason": (changed("- kind: explore", "- {kind: preflight, skip: {gradients: ''}}\n  - kind: explore"),
                  "phases[0].skip.gradients", 12, "is empty", "Write"),
    "never compared": (changed("- kind: explore", "- {kind: evolve, interval: 27}\n  - kind: explore"),
                       "phases[0].interval", 12,
                       "interval (27) is not below epochs", "Lower it"),
    "more than half": (changed("- kind: explore", "- {kind: evolve, quantile: 0.6}\n  - kind: explore"),
                       "phases[0].quantile", 12, "0.6 is above 0.5", "Lower"),
    "one factor": (
        changed("- kind: explore", "- {kind: evolve, mutations: {lr: {factors: [0.8]}}}\n  - kind: explore"),
        "phases[0].mutations.lr.factors", 12, "has 1 values and needs one more", "Add it"),
    "no factor": (
        changed("- kind: explore", "- {kind: evolve, mutations: {lr: {factors: [0.8, .inf]}}}\n  - kind: explore"),
        "phases[0].mutations.lr.factors[1]", 12, "finite", ""),
    "a replay of nothing": (
        changed("- kind: explore", "- {kind: replay, trial: evolve-000}\n  - kind: explore"),
        "phases[0].trial", 12, "there is no phase 'evolve' before it", "Name one of its trials"),
    "a mutation of nothing": (
        changed("- kind: explore", "- {kind: evolve, mutations: {lr: , width: }}\n  - kind: explore"),
        "phases[0].mutations.width", 12, "not a parameter of the space", "Known: lr"),
    "a factor below 1 twice": (
        changed("- kind: explore", "- {kind: evolve, mutations: {lr: {factors: [0.5, 0.9]}}}\n  - kind: explore"),
        "phases[0].mutations.lr.factors[1]", 12, "0.9 is not above 1", "Raise"),
    "an unknown mutation": (
        changed("- kind: explore", "- {kind: evolve, mutations: {lr: {resampl: 0.5}}}\n  - kind: explore"),
        "phases[0].mutations.lr.resampl", 12, "unknown key", "resample?"),
    "no phases": (GOOD[: GOOD.index("phases:")] + "phases: []\n", "phases", 11, "too few values", "at least 1"),
    "stopped after the end": (
        changed("trials: 12", "min_epochs: 30"),
        "phases[0].min_epochs",
        13,
        "min_epochs (30) is above epochs (3)",
        "Lower it",
    ),
    "baseline": (changed("{lr: 1e-3", "{learning: 1e-3"), "baseline.learning", 10, "not a parameter", "Add it"),
    "baseline misspelt": (changed("32, optimizer", "32, optimiser"), "baseline.optimiser", 10, "not a", "optimizer?"),
    "empty space": ("trainable: a:b\nspace:\n", "space", 2, "names no parameter", "log"),
    "constants only": ("trainable: a:b\nspace: {lr: 0.1}\n", "space", 2, "every parameter is a constant", "range"),
    "no space": ("trainable: a:b\n", "space", 0, "is missing", "Add `space:`"),
    "not YAML": (changed("[sgd, adamw]", "[sgd, adamw"), "spec", 7, "not YAML", "Check"),
    "a tab": (changed("  batch_size:", "\tbatch_size:"), "spec", 5, "not YAML", "Check"),
    "a key twice": (f"{GOOD}seed: 8\n", "spec", 20, "duplicate key", "Check"),
    "a list": ("- trainable\n", "spec", 0, "not a mapping", "trainable:"),
    "nothing": ("", "spec", 0, "not a mapping", "trainable:"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "path", "line", "problem", "mend"), BAD.values(), ids=BAD)
def test_a_bad_spec_is_told_with_key_file_line_and_mend(file, text, path, line, problem, mend):
    where = file(text)
    with pytest.raises(SpecError) as caught:
        read_spec(where)
    error = caught.value
    assert (error.path, error.line, error.file) == (path, line, str(where))
    assert problem in error.problem
    assert mend in error.mend
    assert error.exit_code == 2
    first, second = str(error).split("\n")
    assert first == f"{path}: {error.problem}"
    assert second.startswith(f"  in {where}, line {line}. " if line else f"  in {where}. ")
    assert list(where.parent.iterdir()) == [where], "a refused spec leaves nothing behind"


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(SpecError, match=r"no file .*nowhere\.yaml") as caught:
        read_spec(tmp_path / "nowhere.yaml")
    assert "sweeps init" in caught.value.mend


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"trainable: a:b\x01\n"], ids=["not UTF-8", "control character"])
def test_a_file_that_is_no_text_is_told(tmp_path, content):
    path = tmp_path / "digits.yaml"
    path.write_bytes(content)
    with pytest.raises(SpecError, match=r"digits\.yaml"):
        read_spec(path)


def test_a_folder_is_no_spec(tmp_path):
    with pytest.raises(SpecError, match="cannot be read"):
        read_spec(tmp_path)


@pytest.mark.parametrize(
    "tracking",
    [
        "postgresql://me:hunter2@db.example/mlflow",
        "https://me:hunter2@mlflow.example",
        "postgresql://db.example/mlflow?user=me&password=hunter2",
        "postgresql://me:hun[hunter2@db.example/mlflow",
        ["postgresql://me:hunter2@db.example/mlflow"],
    ],
    ids=["database", "server", "in the query", "not to be parsed", "wrong type"],
)
def test_a_password_is_refused_and_not_repeated(tracking):
    with pytest.raises(SpecError) as caught:
        SweepSpec.model_validate({**MINIMAL, "tracking": tracking})
    assert caught.value.path == "tracking"
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in repr(caught.value.__cause__)


@pytest.mark.parametrize(
    "tracking", ["https://me@mlflow.example", "sqlite:///mlflow.db", "http://localhost:5000", None]
)
def test_a_tracking_uri_without_a_password_is_fine(tracking):
    assert SweepSpec.model_validate({**MINIMAL, "tracking": tracking}).tracking == tracking


def test_python_gets_the_same_error_without_a_file():
    with pytest.raises(SpecError) as caught:
        SweepSpec(**MINIMAL, seeds=3)
    assert str(caught.value) == "seeds: unknown key\n  Did you mean seed?"


@pytest.mark.parametrize("raw", [3, [1], "text", None], ids=str)
def test_what_is_no_spec_at_all_is_told(raw):
    with pytest.raises(SpecError, match="not a mapping"):
        SweepSpec.model_validate(raw)


def test_a_mutation_may_be_named_alone():
    phase = {"kind": "evolve", "epochs": 10, "mutations": {"lr": None, "momentum": {"resample": 0.5}}}
    space = {"lr": {"log": [1e-4, 1e-1]}, "momentum": {"float": [0, 1]}}
    spec = SweepSpec.model_validate({"trainable": "a:b", "space": space, "phases": [phase]})
    (evolve,) = spec.phases
    assert evolve.mutations["lr"].factors == (0.8, 1.25)
    assert evolve.mutations["momentum"].resample == 0.5
    assert evolve.judged == (3, 6, 9)
    assert SweepSpec.model_validate(spec.document()) == spec


def test_a_replay_takes_a_name_that_is_free_and_the_spec_of_before_is_accepted():
    phases = [{"kind": "explore"}, {"kind": "refine", "name": "replay"}]
    spec = SweepSpec.model_validate({"trainable": "a:b", "space": {"lr": None}, "phases": phases})
    once = replayed(spec, "explore-003", 2)
    twice = replayed(once, "explore-004", 1)
    assert [phase_name(phase) for phase in twice.phases] == ["explore", "replay", "replay2", "replay3"]
    assert SweepSpec.model_validate(twice.document()).document() == twice.document()
    assert accepted(twice, spec).document() == twice.document()
    assert accepted(twice, once).document() == twice.document()
