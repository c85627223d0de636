"""The engine's steps with models that answer at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from panther_core.decide.engine import Answer, Decided, Prefetch, Steps
from panther_core.decide.scoring import Request

if TYPE_CHECKING:
    from panther_core.model.serving import PantherModel


def decided(steps: Steps, ask: Callable[[Request[Any]], Answer]) -> Iterator[Decided]:
    """What the engine decides, in its order; `ask` gives the models' answers, or None for one that is down."""
    answer: Answer = None
    while True:
        try:
            need = steps.send(answer)
        except StopIteration:
            return
        answer = None
        if isinstance(need, Decided):
            yield need
        elif not isinstance(need, Prefetch):  # nothing here could be asked meanwhile
            answer = ask(need)


def asking(model: PantherModel) -> Callable[[Request[Any]], Answer]:
    """The models' answers."""
    return model.answer
