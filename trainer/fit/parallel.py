"""Data-parallel pretraining under torchrun: every process computes its share of each batch, gradients are added up.

    torchrun --standalone --nproc-per-node 2 --no-python panther models train ...

Losses are means over the whole batch, and InfoNCE sees the users of all processes, so the weights do not depend on the
number of processes (but for the order of additions, and dropout's random numbers). Processes communicate by gloo on
CPUs and by nccl on GPUs. Each process reads the log itself. --out must be one folder that all processes see, on all
machines; the first process writes there.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.nn.functional import all_gather

from panther_core.base.errors import BadInput


@dataclass(frozen=True)
class ProcessGroup:
    """The processes that train together, seen from one of them: its rank, their number, its device."""

    rank: int = 0
    size: int = 1
    device: torch.device = torch.device("cpu")  # noqa: RUF009 - immutable

    @property
    def first(self) -> bool:
        """Whether this is the first process: the one that writes files, and fine-tunes after pretraining."""
        return self.rank == 0

    def total(self, count: int) -> int:
        """Sum of `count` over all processes."""
        if self.size == 1:
            return count
        out = torch.tensor(count, device=self.device)
        dist.all_reduce(out)
        return int(out)

    def first_says(self, value: float) -> float:
        """The first process's `value`, in all processes.

        Whatever ends training is decided by it: a process that went on alone would wait forever for the others.
        """
        if self.size == 1:
            return value
        out = torch.tensor(value, dtype=torch.float64, device=self.device)
        dist.broadcast(out, 0)
        return float(out)

    def add_up(self, tensor: Tensor) -> Tensor:
        """Sum over all processes, without gradient: for figures."""
        if self.size > 1:
            tensor = tensor.clone()
            dist.all_reduce(tensor)
        return tensor

    def gather(self, rows: Tensor, most: int) -> Tensor:
        """Rows of all processes, at most `most` of each; gradients flow back to the process that a row came from."""
        if self.size == 1:
            return rows
        padded = torch.nn.functional.pad(rows, (0, 0) * (rows.dim() - 1) + (0, most - len(rows)))
        counts, parts = _gathered(torch.tensor([float(len(rows))], device=self.device)), _gathered(padded)
        return torch.cat([part[: int(n)] for part, n in zip(parts, counts, strict=True)])

    def add_gradients(self, model: torch.nn.Module) -> None:
        """Sum every parameter's gradient over all processes, in place."""
        if self.size == 1:
            return
        for parameter in model.parameters():
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            dist.all_reduce(parameter.grad)


def _gathered(tensor: Tensor) -> tuple[Tensor, ...]:
    parts: tuple[Tensor, ...] = all_gather(tensor)  # type: ignore[no-untyped-call]
    return parts


ALONE = ProcessGroup()


def join() -> ProcessGroup:
    """Join the group that torchrun's environment variables describe; without them the group is this process alone.

    The device is a GPU if the machine has one. Raises BadInput for more processes than GPUs on this machine.
    """
    gpu, local = torch.cuda.is_available(), int(os.environ.get("LOCAL_RANK", "0"))
    if gpu and local >= torch.cuda.device_count():
        raise BadInput(
            f"expected at most {torch.cuda.device_count()} processes here, one a GPU: lower --nproc-per-node"
        )
    device = torch.device(f"cuda:{local}" if gpu else "cpu")
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return ProcessGroup(device=device)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if gpu else "gloo")
    return ProcessGroup(dist.get_rank(), dist.get_world_size(), device)
