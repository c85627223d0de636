"""The fraud head (paper eq. 3): p = g(psi(c), e_u, Delta, f_enc(last S events)), g a DCN-v2, f_enc a text convolution.

Shapes: B rows, S events (the newest last), C width of the event embedding, P pooled features, F context features,
W = RECENT + 1 events under the widest window.

The text convolution can be computed in two parts. A window counts only when all of its events exist, and activations
are >= 0, with 0 where there is no window. So the maximum over the last S events is exactly the larger of the cached
maximum over the windows inside the S - 1 events before, and the maximum over the few windows that end at the new event.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from panther_core.data.schema import AttributeSchema
from panther_core.decide.scoring import SURPRISE
from panther_core.model.codes import ATTRIBUTES, attributes, sizes
from panther_core.model.dcn import CrossLayers, DeepLayers
from panther_core.model_config import ModelConfig
from panther_core.state.window import RECENT

CLIP = 8.0  # standard deviations that a dense input is cut off at
MAX_Z, MIN_SIGMA = 1e6, 1e-9  # bounds of z and of the sigma that it is divided by


class TextCnn(nn.Module):
    """Convolution windows of several widths over event embeddings, computed as one matrix over the newest W events."""

    taps_PW: Tensor

    def __init__(self, config: ModelConfig, schema: AttributeSchema) -> None:
        super().__init__()
        counts = sizes(schema)
        self.span, self.widths = config.span, [w for w in config.cnn_widths for _ in range(config.cnn_filters)]
        self.offsets = [sum(counts[:i]) for i in range(len(counts))]
        self.table = nn.Parameter(torch.randn(sum(counts), config.cnn_dim) * 0.3)
        taps = torch.tensor([[RECENT + 1 - i <= w for i in range(RECENT + 1)] for w in self.widths])
        self.register_buffer("taps_PW", taps, persistent=False)
        self.weight_PWC = nn.Parameter(torch.randn(config.pooled, RECENT + 1, config.cnn_dim) * 0.2)
        self.bias_P = nn.Parameter(torch.zeros(config.pooled))

    def activations(self, codes: Tensor) -> Tensor:
        """Activations [B, T - RECENT, P] of the windows that end at each event from RECENT on; 0 where there is no
        window."""
        return self.activations_of(attributes(codes))

    def activations_of(self, parts: Tensor) -> Tensor:
        """As `activations`, of attribute codes [B, T, 7] instead of packed ones."""
        rows = parts + torch.tensor(self.offsets, device=parts.device)
        e_BTC = F.embedding_bag(rows.flatten(0, -2), self.table, mode="sum").view(*parts.shape[:-1], -1)
        there_BT = parts[..., ATTRIBUTES.index("amount")] > 0  # every real event has an amount code of 1 or more
        windows = e_BTC.unfold(1, RECENT + 1, 1).transpose(2, 3)  # [B, T - RECENT, W, C]
        weight = self.weight_PWC * self.taps_PW[..., None]
        out = F.relu(F.linear(windows.flatten(2), weight.flatten(1), self.bias_P))
        complete = there_BT.unfold(1, RECENT + 1, 1)[..., [RECENT + 1 - w for w in self.widths]]
        return out * (complete & there_BT[:, RECENT:, None])

    def every(self, codes_BT: Tensor) -> Tensor:
        """Activations [B, T, P] of the windows that end at each event."""
        return self.activations(F.pad(codes_BT, (RECENT, 0)))

    def pooled(self, a_BTP: Tensor) -> Tensor:
        """Features to cache after each event, [B, T, P]: the maximum of what `every` gives over the S - 1 events up to
        it."""
        widths = sorted(set(self.widths))
        parts = torch.split(a_BTP, len(self.widths) // len(widths), dim=2)
        # a window of w events that ends at t lies inside the last S - 1 events of t' when t' - t <= S - 1 - w
        return torch.cat([running_max(a, self.span - w) for a, w in zip(parts, widths, strict=True)], dim=2)

    def newest(self, recent_B3: Tensor, code_B: Tensor) -> Tensor:
        """Activations [B, P] of the windows that end at the new event."""
        return self.activations(torch.cat([recent_B3, code_B[:, None]], dim=1))[:, 0]


def running_max(a_BTP: Tensor, reach: int) -> Tensor:
    """Maximum [B, T, P] over the `reach` positions that end at each one, of values >= 0; takes log2(reach) steps."""
    if reach <= 0:
        return torch.zeros_like(a_BTP)
    done = 1
    while done < reach:
        shift = min(done, reach - done)
        a_BTP = torch.maximum(a_BTP, F.pad(a_BTP, (0, 0, shift, 0))[:, : a_BTP.shape[1]])
        done += shift
    return a_BTP


@dataclass(frozen=True)
class Deviation:
    """Delta: how the new event relates to what was predicted (paper 4.1.3)."""

    log_p_B: Tensor
    mu_B: Tensor
    sigma_B: Tensor
    surprise_BA: Tensor

    @property
    def z_B(self) -> Tensor:
        """(p - mu) / sigma [B], within +-MAX_Z: sigma is almost 0 where the prediction is almost uniform."""
        z = (self.log_p_B.exp() - self.mu_B) / self.sigma_B.clamp(min=MIN_SIGMA)
        return z.clamp(-MAX_Z, MAX_Z)


class FraudHead(nn.Module):
    """DCN-v2 over standardised features and deviation, e_u and the pooled text convolution. `scale` and `bias`
    calibrate."""

    mean: Tensor
    std: Tensor
    scale: Tensor
    bias: Tensor

    def __init__(self, config: ModelConfig, schema: AttributeSchema, features: int) -> None:
        super().__init__()
        self.text = TextCnn(config, schema)
        dense = features + len(SURPRISE) + 4  # 4: log p, z, log sigma, cold (whether the user has no history)
        self.register_buffer("mean", torch.zeros(dense))
        self.register_buffer("std", torch.ones(dense))
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("bias", torch.zeros(()))
        width = dense + config.user_dim + config.pooled
        self.cross = CrossLayers(width, config.cross_layers)
        self.deep = DeepLayers(width, config.head_hidden, config.head_dropout)
        self.out = nn.Linear(width + config.head_hidden, 1)
        self.dropout = nn.Dropout(config.head_dropout)

    @staticmethod
    def dense(features_BF: Tensor, delta: Deviation, cold_B: Tensor) -> Tensor:
        """psi and Delta side by side [B, X], not yet standardised; z and sigma on a logarithmic scale."""
        columns = [delta.log_p_B, torch.asinh(delta.z_B), delta.sigma_B.clamp(min=MIN_SIGMA).log(), cold_B.float()]
        return torch.cat([features_BF, torch.stack(columns, dim=1), delta.surprise_BA], dim=1)

    def logit(self, dense_BX: Tensor, e_BU: Tensor, pooled_BP: Tensor) -> Tensor:
        """Fraud logit [B] before calibration; `pooled_BP` is over all windows, those that end at the new event
        included."""
        standard = ((dense_BX - self.mean) / self.std).clamp(-CLIP, CLIP)
        x0 = torch.cat([standard, self.dropout(e_BU), self.dropout(pooled_BP)], dim=1)
        out: Tensor = self.out(torch.cat([self.cross(x0), self.deep(x0)], dim=1))
        return out[:, 0]

    def calibrated(self, dense_BX: Tensor, e_BU: Tensor, pooled_BP: Tensor) -> Tensor:
        """As `logit`, calibrated (Platt scaling)."""
        return self.scale * self.logit(dense_BX, e_BU, pooled_BP) + self.bias


class ContextHead(nn.Module):
    """The fraud head's layers over psi alone, without anything of PANTHER's: a head beside it in the blend, and what
    shows PANTHER's part."""

    mean: Tensor
    std: Tensor
    text = None

    def __init__(self, config: ModelConfig, features: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("std", torch.ones(features))
        self.cross = CrossLayers(features, config.cross_layers)
        self.deep = DeepLayers(features, config.head_hidden, config.head_dropout)
        self.out = nn.Linear(features + config.head_hidden, 1)

    def logit(self, dense_BX: Tensor, e_BU: Tensor, pooled_BP: Tensor) -> Tensor:
        """Fraud logit [B] before calibration; inputs as FraudHead.logit takes them, of which psi is used."""
        x0 = ((dense_BX[:, : len(self.mean)] - self.mean) / self.std).clamp(-CLIP, CLIP)
        out: Tensor = self.out(torch.cat([self.cross(x0), self.deep(x0)], dim=1))
        return out[:, 0]
