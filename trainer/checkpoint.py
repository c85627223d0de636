"""Where pretraining goes on after an interruption: weights and optimiser state after each epoch, as safetensors."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file


class Checkpoint:
    """One file in `folder`, for one data set and config, named by `key`; a checkpoint with another key is not used."""

    def __init__(self, folder: Path, key: str) -> None:
        self.folder, self.key = folder, key
        self._path = folder / "pretrain.safetensors"

    def save(self, model: torch.nn.Module, optimiser: torch.optim.Optimizer, epochs: int) -> None:
        """Replace the checkpoint, atomically."""
        tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
        for i, state in optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{i}.{name}": value for name, value in state.items()}
        self.folder.mkdir(parents=True, exist_ok=True)
        part = self._path.with_suffix(".part")
        contiguous = {name: value.contiguous() for name, value in tensors.items()}
        save_file(contiguous, part, metadata={"key": self.key, "epochs": str(epochs)})
        os.replace(part, self._path)

    def load(self, model: torch.nn.Module, optimiser: torch.optim.Optimizer) -> int:
        """Restore in place; returns the epochs done, 0 when there is nothing to go on from."""
        if not self._path.exists():
            return 0
        with safe_open(self._path, "pt") as file:
            metadata = file.metadata()
        if metadata.get("key") != self.key:
            return 0
        tensors = load_file(self._path)
        model.load_state_dict({n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")})
        state: dict[int, dict[str, torch.Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith("optimiser."):
                _, index, part = name.split(".", 2)
                state.setdefault(int(index), {})[part] = value
        optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
        return int(metadata["epochs"])

    def clear(self) -> None:
        """Remove it: the artifact is written."""
        shutil.rmtree(self.folder, ignore_errors=True)
