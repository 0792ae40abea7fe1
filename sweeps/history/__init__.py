"""The journal folded into what a sweep has done so far: phases, trials, their curves, the verdict.

Everything that looks at a sweep (status, live view, report, MLflow writer, narrowing, the Python API) folds the same
lines with the same `History.apply`, incrementally or at once.
"""

from sweeps.history.history import Driver, History, PhaseHistory, Record
from sweeps.history.trials import LIVE, Epoch, Exploit, Mode, Status, TrialHistory

__all__ = [
    "LIVE",
    "Driver",
    "Epoch",
    "Exploit",
    "History",
    "Mode",
    "PhaseHistory",
    "Record",
    "Status",
    "TrialHistory",
]
