"""The checkpoint from which an interrupted pretraining resumes: weights, optimiser state and best epoch,
safetensors."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from panther_core.base.console import say
from panther_core.base.errors import ArtifactError
from panther_core.base.files import written_whole


@dataclass
class Best:
    """The epoch with the best validation HR@10 so far, and its weights. Epoch 0: no epoch has been validated."""

    hit_rate: float = -1.0
    epoch: int = 0
    weights: dict[str, torch.Tensor] = field(default_factory=dict)

    def see(self, model: torch.nn.Module, hit_rate: float, epoch: int) -> None:
        """Keep the model's weights if `hit_rate` is the best so far."""
        if hit_rate > self.hit_rate:
            self.hit_rate, self.epoch = hit_rate, epoch
            self.weights = {name: value.detach().clone() for name, value in model.state_dict().items()}

    def restore(self, model: torch.nn.Module) -> None:
        """Give the model the best weights, if there are any."""
        if self.epoch:
            model.load_state_dict(self.weights)

    def figures(self) -> dict[str, float]:
        """Number and hit rate of the best epoch, for the manifest's metrics."""
        return {"best_epoch": self.epoch, "best_hr@10": self.hit_rate} if self.epoch else {}


class Checkpoint:
    """One file in `folder`. `key` names the data, config and seed; a checkpoint with another key is not resumed
    from."""

    def __init__(self, folder: Path, key: str) -> None:
        self.folder, self.key = folder, key
        self._path = folder / "pretrain.safetensors"

    def save(
        self, model: torch.nn.Module, optimiser: torch.optim.Optimizer, epochs: int, best: Best | None = None
    ) -> None:
        """Write the checkpoint after `epochs` epochs; a crash while it is written leaves the one before."""
        tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
        best = best or Best()
        tensors |= {f"best.{name}": value for name, value in best.weights.items()}
        for i, state in optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{i}.{name}": value for name, value in state.items()}
        contiguous = {name: value.contiguous() for name, value in tensors.items()}
        facts = {"key": self.key, "epochs": str(epochs), "best": f"{best.epoch} {best.hit_rate!r}"}
        with written_whole(self._path) as part:
            save_file(contiguous, part, metadata=facts)

    def load(self, model: torch.nn.Module, optimiser: torch.optim.Optimizer, best: Best | None = None) -> int:
        """Restore all three in place; returns the epochs done, 0 when there is no checkpoint for this key.

        Raises ArtifactError for a damaged file.
        """
        if not self._path.exists():
            return 0
        try:
            with safe_open(self._path, "pt") as file:
                metadata = file.metadata()
            if metadata.get("key") != self.key:
                say(f"  {self._path} is of other data or settings: starting anew")
                return 0
            tensors = load_file(self._path)
        except (SafetensorError, OSError) as error:
            raise ArtifactError(
                f"expected a whole checkpoint in {self._path}, got {error}: remove it to start anew"
            ) from None
        model.load_state_dict({n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")})
        state: dict[int, dict[str, torch.Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith("optimiser."):
                _, index, part = name.split(".", 2)
                state.setdefault(int(index), {})[part] = value
        optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
        best = best or Best()
        epoch, hit_rate = metadata["best"].split()
        best.epoch, best.hit_rate = int(epoch), float(hit_rate)
        best.weights = {n.removeprefix("best."): t for n, t in tensors.items() if n.startswith("best.")}
        say(f"  going on after epoch {metadata['epochs']}")
        return int(metadata["epochs"])

    def clear(self) -> None:
        """Remove the checkpoint, when the artifact is written."""
        shutil.rmtree(self.folder, ignore_errors=True)
