"""The best of a sweep, and what a person wants of it: its config, its weights, its network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sweeps.errors import StorageError, UsageError
from sweeps.space import Config, Configs
from sweeps.spec import name_of
from sweeps.storage import Folder, opened


@dataclass(frozen=True)
class Best:
    """The best config that a sweep found, by its confirm phase if it had one."""

    trial: str
    config: Config
    configs: Configs
    """Where it is a schedule: what was trained with after each of these epochs; `config` is the last."""
    metrics: dict[str, float]
    """After the epoch of its checkpoint; after its last where it has none."""
    checkpoint: Folder | None
    trainable: Any
    fidelity: dict[str, Any]

    def state(self) -> dict[str, Any]:
        """What the trial's checkpoint holds. Raises UsageError when it has none."""
        from trainables import state

        try:
            return dict(state.load(*opened(self._saved())))
        except state.CheckpointError as error:
            raise StorageError(f"{error}. Restore it from a copy, or train {self.trial}'s config again.") from None

    def load(self) -> Any:
        """The trained `nn.Module`, on the CPU, in eval mode. Raises UsageError for a loop of the user's own."""
        from trainables.contract import Fidelity, instantiate
        from trainables.evaluation import load_model

        return load_model(instantiate(self._builder()), self.config, Fidelity(**self.fidelity), self.state())

    def check(self) -> None:
        """Raises UsageError when another process could not build the model and load the checkpoint into it."""
        from trainables.contract import TrainableError

        name = name_of(self.trainable)
        if name.startswith("__main__:"):
            raise UsageError(f"{name} was defined in a script. Put it in a module, and run anew.")
        try:
            self._builder()
        except TrainableError as error:
            raise UsageError(f"{error}.") from None
        self._saved()

    def _saved(self) -> Folder:
        if self.checkpoint is None:
            raise UsageError(f"{self.trial} has no checkpoint: its loop never called session.checkpoint_with.")
        return self.checkpoint

    def _builder(self) -> Any:
        """Whose `model` is the network. Raises UsageError for a loop of the user's own."""
        import inspect

        from trainables.contract import load

        found = load(self.trainable) if isinstance(self.trainable, str) else self.trainable
        if inspect.isgeneratorfunction(found):
            raise UsageError(f"{name_of(found)} builds its model itself. Use .state() and load it there.")
        return found
