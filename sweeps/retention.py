"""Which checkpoints stay: the last of each live trial, the best few of the sweep, and what a later step will load.

So the disk that a sweep takes is bounded while it runs, and nothing that is needed is removed: a lost slot goes on from
the last checkpoint, confirm reads the test split with those of all its seeds, `.best.load()` takes the incumbent's.
"""

from __future__ import annotations

from functools import partial

from sweeps.errors import StorageError
from sweeps.history import LIVE, Record, TrialHistory
from sweeps.insight.curves import furthest
from sweeps.insight.lineage import wanted
from sweeps.spec import Evolve
from sweeps.storage import Folder, files, first_words, persistently, remove

MANIFEST = "manifest.json"


class Keeper:
    """Removes the checkpoints of a sweep that are not needed any more, each once the journal can do without it."""

    def __init__(self, record: Record) -> None:
        self.record, self.folder = record, record.history.folder
        self._held: dict[str, TrialHistory] = {}
        """Ended trials that may have a checkpoint: few, so that each end costs the same however long the sweep."""
        self._aside: set[str] = set()
        """Checkpoints that only another member of their population may still load."""
        self._refused, self._told = "", False

    def clean(self) -> None:
        """Remove what is on the storage and not needed: what a killed driver never told of, or had no time to remove.

        Called before a driver goes on with a sweep, and at its end.
        """
        self._held = {trial.trial: trial for trial in self.record.history.trials.values() if trial.status not in LIVE}
        live = [trial for trial in self.record.history.trials.values() if trial.status in LIVE]
        self._held = {trial.trial: trial for trial in self._needed()}
        own = {trial.checkpoint for trial in [*live, *self._held.values()]}
        named = own | self._wanted()
        self._aside = {pointer for pointer in named - own if pointer}
        try:
            found = persistently(lambda: files(self.folder / "checkpoints"), self.folder)
        except OSError as error:
            raise StorageError(f"storage: {self.folder} cannot be read: {first_words(error)}. Mend it first.") from None
        for pointer in sorted({path.rpartition("/")[0] for path, _ in found}):
            if f"checkpoints/{pointer}" not in named:
                self._drop(self.folder / "checkpoints" / pointer)
        self._tell()

    def reported(self, trial: TrialHistory) -> None:
        """Remove the checkpoint before a trial's newest; called after each report."""
        named = [epoch.checkpoint for epoch in trial.epochs[-1:] if epoch.checkpoint]
        if named and (before := next((e.checkpoint for e in trial.epochs[-2::-1] if e.checkpoint), None)):
            self._aside.add(before)
        self._let_go()

    def ended(self, trial: TrialHistory | None = None) -> None:
        """Remove what is not needed now that a trial has ended, or a verdict was found."""
        if trial is not None and trial.status in LIVE:
            return  # a later driver goes on with it
        if trial is not None:
            self._held[trial.trial] = trial
        needed = {trial.trial: trial for trial in self._needed()}
        for held in self._held.values():
            if held.trial not in needed and held.checkpoint:
                self._aside.add(held.checkpoint)
        self._held = needed
        self._let_go()
        self._tell()

    def _needed(self) -> list[TrialHistory]:
        """Of the ended trials that are held, those whose checkpoint stays."""
        history, spec = self.record.history, self.record.history.spec
        assert spec is not None
        usable = [t for t in self._held.values() if t.status == "FINISHED" and t.checkpoint and t.curve(spec.metric)]
        usable.sort(key=lambda trial: trial.trial)  # of equals the first, as everywhere
        usable.sort(key=lambda trial: furthest(trial, spec.metric, spec.mode), reverse=True)
        winner = (history.verdict or {}).get("best_trial")
        searches = [name for name, phase in history.phases.items() if phase.searches]
        incumbent = next((t for name in reversed(searches) for t in usable if t.phase == name), None)

        def stays(place: int, trial: TrialHistory) -> bool:
            phase = history.phases[trial.phase]
            unread = phase.kind == "confirm" and not phase.judged
            return place < spec.keep_checkpoints or trial is incumbent or trial.trial == winner or unread

        return [trial for place, trial in enumerate(usable) if stays(place, trial)]

    def _wanted(self) -> set[str]:
        """The checkpoints of populations that a member may still load."""
        history = self.record.history
        assert history.spec is not None
        phases = [phase for phase in history.spec.phases if isinstance(phase, Evolve)]
        return set().union(*(wanted(history, phase) for phase in phases))

    def _let_go(self) -> None:
        """Remove what was set aside and no member may load any more."""
        stays = self._aside & self._wanted() if self._aside else set()
        for pointer in sorted(self._aside - stays):
            self._remove(pointer)
        self._aside = stays

    def _remove(self, pointer: str) -> None:
        self.record.journal.once_stored(partial(self._drop, self.folder / pointer))

    def _drop(self, checkpoint: Folder) -> None:
        """Remove one; what the storage refuses stays, and is told once."""
        try:
            remove(checkpoint, MANIFEST)
        except OSError as error:
            self._refused = self._refused or f"{checkpoint}: {first_words(error)}"

    def _tell(self) -> None:
        if self._refused and not self._told:
            self._told = True
            message = f"checkpoints that are not needed any more stay: {self._refused}. May this user delete there?"
            self.record.write("finding", finding="checkpoints_stay", severity="warn", message=message)


def kept(folder: Folder) -> tuple[int, int]:
    """How many checkpoints the sweep has on its storage now, and the bytes that they take."""
    found = files(folder / "checkpoints")
    whole = {path.rpartition("/")[0] for path, _ in found if path.endswith(f"/{MANIFEST}")}
    return len(whole), sum(size for path, size in found if path.rpartition("/")[0] in whole)
