"""The report's tables: rows of words made from History, so that the template only lays out.

Every function gives plain rows of strings; the template escapes them. Nothing is computed here that the journal
does not hold, except sums over its lines.
"""

from __future__ import annotations

import io
from typing import Any

from ruamel.yaml import YAML

from sweeps.history import History, TrialHistory
from sweeps.insight.curves import finalists
from sweeps.report import words
from sweeps.report.outcome import evidence, outcome
from sweeps.spec import SweepSpec

Row = dict[str, Any]


def arms(history: History) -> list[Row]:
    """Each arm of the confirm phase: what it is, its value under each seed, mean ± s.d., the test split."""
    result = outcome(history)
    if result is None:
        return []
    return [
        {
            "arm": arm.name,
            "won": arm is result.winner,
            "seeds": [f"{seed}: {words.number(v)}" for seed, v in zip(arm.seeds, arm.values, strict=True)]
            + [f"{seed}: infeasible" for seed in arm.infeasible],
            "spread": arm.spread,
            "test": arm.test_words,
            "trials": ", ".join(arm.trials),
        }
        for arm in result.arms
    ]


def configs(history: History) -> Row | None:
    """The judged config beside the baseline's, parameter by parameter; None while there is nothing to show.

    Before a verdict it is the leading trial of the last search phase, and the note says that it is not a result.
    """
    spec, result = words.spec_of(history), outcome(history)
    baseline = next((trial.config_at(0) for trial in history.trials.values() if trial.role == "baseline"), None)
    if result:
        judged, title = result.contender.config, result.contender.name
        baseline = result.baseline.config if result.baseline else baseline
        note = "" if result.contender is result.winner else "The baseline won; this is the best other config."
        if result.contender.configs:
            note = f"{note} It changes on the way; these are the last values.".strip()
    else:
        ranking = finalists(history)
        if ranking is None:
            return None
        judged, title = ranking.trials[0].config_at(ranking.epoch), ranking.trials[0].trial
        note = (
            f"Leads {ranking.trials[0].phase} after epoch {ranking.epoch} on {words.data(ranking.data)} "
            f"with {spec.metric} {words.number(ranking.values[0])}: one seed, not a result."
        )
    names = list(dict.fromkeys([*spec.space, *judged, *(baseline or {})]))
    rows = [
        {
            "name": name,
            "judged": words.number(judged[name]) if name in judged else "",
            "baseline": words.number(baseline[name]) if baseline and name in baseline else "",
            "differs": baseline is not None and judged.get(name) != baseline.get(name),
        }
        for name in names
    ]
    return {"title": title, "note": note, "rows": rows, "baseline": baseline is not None}


def schedule(history: History) -> list[Row]:
    """What the judged config is after which epoch, the values that change; empty where it stays the same."""
    result = outcome(history)
    configs = result.contender.configs if result else ()
    names = list(dict.fromkeys(name for _, config in configs for name in config))
    changing = [name for name in names if len({repr(config.get(name)) for _, config in configs}) > 1]
    return [
        {
            "after": epoch,
            "values": [f"{name} {words.number(config[name])}" for name in changing if name in config],
        }
        for epoch, config in configs
    ]


def ranges(history: History) -> list[Row]:
    """What became of each parameter's range: for each phase that weighed them its evidence and a row a parameter.

    Before any phase did, one group with the spec's ranges.
    """
    space = words.spec_of(history).space

    def row(name: str, before: str, after: str, action: str, why: str) -> Row:
        source = space[name].source or "spec"
        return {"parameter": name, "source": source, "before": before, "after": after, "action": action, "why": why}

    groups = [
        {
            "phase": phase.phase,
            "evidence": evidence(phase.comparison),
            "rows": [row(c.parameter, c.before, c.after, c.action, c.why) for c in phase.changes],
        }
        for phase in history.phases.values()
        if phase.changes
    ]
    given = [row(name, str(space[name]), "", "as given", "") for name in space.searched]
    return groups or [{"phase": "", "evidence": "", "rows": given}]


def plan(history: History) -> list[Row]:
    """Per planned phase what was foretold and what came: trials, epochs, seconds."""
    if not history.plans:
        return []
    rows = []
    for planned in history.plans[-1]["phases"]:
        name = planned["phase"]
        phase, trials = history.phases.get(name), history.of_phase(name)
        earlier = [line for line in history.plans if phase is None or line["at"] <= phase.started]
        before = [p for line in (earlier or history.plans)[-1:] for p in line["phases"] if p["phase"] == name]
        wall = phase.ended - phase.started if phase and phase.ended is not None else None
        state = "not begun" if phase is None else "under way" if wall is None else phase.reason
        rows.append(
            {
                "phase": name,
                "fidelity": f"{words.count(planned['epochs'], 'epoch')}, {words.data(planned)}",
                "trials": f"{len(trials)} / {planned['trials']}",
                "epochs": f"{sum(len(t.epochs) for t in trials)}",
                "expected": f"{words.number(planned['expected_epochs'])} (at most {planned['most_epochs']})",
                "before": words.duration(before[0]["seconds"] if before else None),
                "latest": words.duration(planned["seconds"]),
                "wall": words.duration(wall),
                "slots": words.duration(sum(t.seconds for t in trials)) if trials else "–",
                "state": state,
            }
        )
    return rows


def trials(history: History) -> list[Row]:
    """All trials in the order they began."""
    spec = words.spec_of(history)
    return [trial_row(trial, spec) for trial in history.trials.values()]


def trial_row(trial: TrialHistory, spec: SweepSpec) -> Row:
    """One trial: how it ended, its best report, its searched parameters."""
    best = trial.best(spec.metric, spec.mode)
    return {
        "trial": trial.trial,
        "phase": trial.phase,
        "role": trial.role,
        "seed": trial.fidelity["seed"],
        "status": trial.status,
        "reason": trial.reason,
        "epochs": f"{len(trial.epochs)} / {trial.fidelity['epochs']}",
        "data": words.data(trial.fidelity),
        "best": f"{words.number(best[1])} at {best[0]}" if best else "–",
        "parameters": [
            words.number(trial.config[name]) if name in trial.config else "" for name in spec.space.searched
        ],
    }


def failures(history: History) -> list[Row]:
    """Every failed attempt with its message and its log."""
    return [
        {
            "trial": trial.trial,
            "attempt": line["attempt"],
            "kind": line["failure_kind"],
            "error": line["error"],
            "message": line["message"],
            "traceback": line.get("traceback") or "",
            "log": line.get("log") or "",
        }
        for trial in history.trials.values()
        for line in trial.failures
    ]


def batches(history: History) -> Row | None:
    """Throughput and memory against the batch size, and what they say; None where they were not measured."""
    lines = [line for line in history.findings if line["finding"] == "batch_size" and line["evidence"].get("points")]
    if not lines:
        return None
    found = lines[-1]["evidence"]
    workers = found.get("workers", 1)

    def row(point: Row) -> Row:
        speed, held = point["rows_per_second"], point["bytes"]
        return {
            "size": f"{point['batch_size'] * workers:,}",
            "speed": "–" if speed is None else f"{speed * workers:,.0f}",
            "held": "–" if held is None else f"{held / 2**20:,.0f}",
            "fits": "yes" if point["fits"] else "no",
        }

    return {"rows": [row(point) for point in found["points"]], "message": lines[-1]["message"]}


def provenance(history: History) -> list[tuple[str, str]]:
    """What is needed to do it again: code, versions, seed, hardware."""
    header, spec = history.header, words.spec_of(history)
    git = header.get("git") or {}
    commit = f"{git['commit']}{' with uncommitted changes' if git.get('dirty') else ''}" if git.get("commit") else "–"
    return [
        ("git commit", commit),
        ("versions", words.config_words(header.get("versions") or {}) or "–"),
        ("hardware", words.config_words(header.get("hardware") or {}) or "–"),
        ("seed", str(spec.seed)),
        ("trainable", str(spec.document()["trainable"])),
        ("spec digest", str(header.get("spec_digest", spec.digest))),
        ("journal", f"{history.folder / 'journal'}, generation {header.get('generation', '–')}"),
    ]


def spec_text(history: History) -> str:
    """The spec as the YAML that would run it again."""
    stream = io.StringIO()
    yaml: Any = YAML(typ="safe", pure=True)
    yaml.default_flow_style = None
    yaml.sort_base_mapping_type_on_output = False
    yaml.width = 110
    yaml.dump(words.spec_of(history).document(), stream)
    return stream.getvalue()
