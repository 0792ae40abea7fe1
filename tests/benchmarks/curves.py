"""Whether `diagnose` says the right thing of curves that know nothing of this platform: `sweeps diagnose --curves`.

    python tests/benchmarks/curves.py            what of the curves that rules were made on, and of those held out
    python tests/benchmarks/curves.py --misses   and each training of the former of which neither finding was right

`curves.parquet` holds 423 trainings of plain PyTorch loops, made by somebody who knew no rule: 26 pairs of task and
network (tables, images, sequences, regressions, an autoencoder; noise that no network learns in some), 200 healthy ones
and 223 with one of thirty planted faults that hurts by three standard deviations over seeds. Half have the mean over an
epoch's batches as train loss; many have no accuracy, no learning rate, no norms. `right` are the findings that their
maker, who never saw what the rules say, accepts for the fault and the columns shown; `part` says whether rules were
made on that pair of task and network, or its sums alone were looked at.

Where no finding is sure, what the curves may mean counts in a row of its own; a healthy training is warned of only by
what is sure.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import dataclass

import pyarrow.parquet as pq

from benchmarks.harness import ROOT, report
from sweeps.insight.diagnose import diagnose
from sweeps.insight.runs import of_table

FILE = ROOT / "tests" / "benchmarks" / "curves.parquet"
HEALTHY = "healthy"
PARTS = ("made on", "held out")


@dataclass(frozen=True)
class Told:
    """What was said of a training, and what is right."""

    trial: str
    fault: str
    part: str
    right: frozenset[str]
    sure: list[str]
    perhaps: list[str]
    """As `sure`; where there is none, what the curves may mean."""

    def hit(self, first: int, perhaps: bool = True) -> bool:
        """Whether one of the first findings is right."""
        return bool(self.right & set((self.perhaps if perhaps else self.sure)[:first]))


def every() -> list[Told]:
    """Diagnose all trainings."""
    table = pq.read_table(FILE)
    names = ("trial", "fault", "part", "right")
    known = {row["trial"]: row for row in table.select(names).to_pylist()}
    told = []
    for run in of_table(table):
        row, diagnosis = known[run.trial], diagnose(run)
        sure = [one.finding for one in diagnosis.warnings]
        perhaps = [one.finding for one in diagnosis.findings] if diagnosis.suspected else sure
        told.append(Told(run.trial, row["fault"], row["part"], frozenset(row["right"].split(",")), sure, perhaps))
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--misses", action="store_true", help="each that was wrong, of those that rules were made on")
    chosen, told = parser.parse_args(), every()
    rows: list[tuple[str, float, str]] = []
    for part in PARTS:
        faulty = [one for one in told if one.part == part and one.fault != HEALTHY]
        healthy = [one for one in told if one.part == part and one.fault == HEALTHY]
        of = f"of {len(faulty)}"
        for first, name in ((1, "first finding right"), (2, "one of the first two right")):
            rows.append((f"{part}: {name}", statistics.fmean(one.hit(first) for one in faulty), of))
            rows.append((f"{part}: {name}, and sure", statistics.fmean(one.hit(first, False) for one in faulty), of))
        warned = statistics.fmean(bool(one.sure) for one in healthy)
        rows.append((f"{part}: healthy with a warning", warned, f"of {len(healthy)}"))
    for one in told:
        if chosen.misses and one.part == PARTS[0] and one.fault != HEALTHY and not one.hit(2):
            print(
                f"{one.trial} {one.fault:<28} {', '.join(one.perhaps[:2]) or 'nothing':<40} right: {sorted(one.right)}"
            )
    report("curves", rows)


if __name__ == "__main__":
    main()
