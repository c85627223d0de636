"""The served head: a weighted mean of the logits of several heads, and its calibration.

dcn               the paper's head (eq. 3, panther_core.model.head) over psi, Delta, e_u and the text convolution
dcn-context       the same layers over the context features psi alone
boosting          gradient boosting over the context features psi alone
boosting+panther  gradient boosting over psi, Delta and e_u
rules             the logistic rules over psi (panther_core.decide.rules), which need the fewest frauds

An artifact holds any subset, with the weights that validation gave them (trainer.heads.blending). One without a
blend is served by the dcn alone. Each head's logits are calibrated by themselves (Platt) before they are averaged, so
that a weight means the same for all; the mean is calibrated again.

Shapes: B rows, X dense inputs (FraudHead.dense; the first WIDTH are psi), U width of e_u.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from panther_core.base.errors import BadInput
from panther_core.base.ranges import Range, check_ranges
from panther_core.decide.rules import RuleModel
from panther_core.model.head import CLIP
from panther_core.model.kernels.dcn_kernel import DcnWeights, dcn_logits
from panther_core.model.kernels.tree_kernel import Trees, sum_of
from panther_core.state.features import WIDTH

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Name = Literal["dcn", "dcn-context", "boosting", "boosting+panther", "rules"]
DCN: Name = "dcn"
DCN_CONTEXT: Name = "dcn-context"
BOOSTING: Name = "boosting"
BOOSTING_PANTHER: Name = "boosting+panther"
RULES: Name = "rules"
_MOST_KNOTS = 1000


class Member(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One head: its share of the mean, and scale and bias that calibrate its logits. Raises BadInput."""

    name: Name
    weight: Annotated[float, Range(0, 1)]
    scale: Annotated[float, Range(0, 1e6)]
    bias: Annotated[float, Range(-1e6, 1e6)]

    def __post_init__(self) -> None:
        check_ranges(self, "a head of the blend")


class BlendConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What blend.json holds. Raises BadInput."""

    members: tuple[Member, ...]
    mean_logit: tuple[float, ...]
    """Knots of the calibration, ascending: mean logits, and ..."""
    calibrated: tuple[float, ...]
    """... the calibrated logits there, ascending. Between knots it is linear, beyond them it goes on as at the end."""
    soft: tuple[float, ...]
    """Within so much of a threshold a column of boosting+panther turns over gradually
    (panther_core.model.kernels.tree_kernel)."""

    def __post_init__(self) -> None:
        names = [member.name for member in self.members]
        if not names or len({*names}) < len(names):
            raise BadInput(f"expected distinct heads in the blend, got {names[:9]}")
        x, y = np.array(self.mean_logit), np.array(self.calibrated)
        if not 2 <= len(x) == len(y) <= _MOST_KNOTS or not _ascends(x) or not _ascends(y):
            raise BadInput(f"expected 2 to {_MOST_KNOTS} ascending knots of the blend's calibration, got others")
        if not all(0 <= width < 1e6 for width in self.soft):
            raise BadInput("expected soft widths from 0 on in the blend, got others")


@dataclass(frozen=True)
class Blend:
    """A blend with its rules, its trees by member, and the weights of the dcn-context where there is one."""

    config: BlendConfig
    rules: RuleModel
    trees: dict[Name, Trees]
    context: DcnWeights | None = None

    def logit(self, dcn_B: F64, dense_BX: F32, e_BU: F32) -> F64:
        """Calibrated logits [B]; `dcn`: logits of the dcn before any calibration."""
        mean = np.zeros(len(dense_BX))
        for member in self.config.members:
            mean += member.weight * (member.scale * self.raw(member.name, dcn_B, dense_BX, e_BU) + member.bias)
        return _interpolated(mean, *self._knots)

    def raw(self, name: Name, dcn_B: F64, dense_BX: F32, e_BU: F32) -> F64:
        """Logits [B] of one head, before its calibration."""
        if name == DCN:
            return dcn_B
        if name == RULES:
            return np.asarray(self.rules.logit(dense_BX[:, :WIDTH]), np.float64)
        if name == DCN_CONTEXT:
            assert self.context is not None, "load_blend refuses a blend that lacks a member's weights"
            standard = (dense_BX[:, :WIDTH] - self.context.mean_X) / self.context.std_X
            return np.asarray(dcn_logits(np.clip(standard, -CLIP, CLIP), self.context), np.float64)
        if name == BOOSTING:
            return np.asarray(sum_of(self.trees[name], dense_BX[:, :WIDTH], self._hard))
        return np.asarray(sum_of(self.trees[name], np.hstack([dense_BX, e_BU]), self._soft))

    # arrays of what the configuration holds as tuples, made once and not at each of a thousand calls a second

    @cached_property
    def _hard(self) -> F64:
        return np.zeros(WIDTH)

    @cached_property
    def _soft(self) -> F64:
        return np.array(self.config.soft)

    @cached_property
    def _knots(self) -> tuple[F64, F64]:
        return _knots(self.config)


def calibrated(mean_B: F64, config: BlendConfig) -> F64:
    """The calibration of mean logits."""
    return _interpolated(mean_B, *_knots(config))


def _knots(config: BlendConfig) -> tuple[F64, F64]:
    return np.array(config.mean_logit), np.array(config.calibrated)


def _interpolated(mean_B: F64, x: F64, y: F64) -> F64:
    at = np.clip(np.searchsorted(x, mean_B) - 1, 0, len(x) - 2)
    slope = (y[at + 1] - y[at]) / (x[at + 1] - x[at])
    return np.asarray(y[at] + slope * (mean_B - x[at]))


def _ascends(numbers: F64) -> bool:
    return bool(np.isfinite(numbers).all() and (np.diff(numbers) > 0).all())
