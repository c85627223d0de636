"""Shape and losses of the model: every knob with its check. No torch, so that manifests can be read without it."""

from __future__ import annotations

from typing import Literal, get_args

import msgspec

from panther_core.base.errors import BadInput
from panther_core.state.window import RECENT

Encoder = Literal["panther", "transformer", "sasrec", "hstu"]
ENCODERS: tuple[Encoder, ...] = get_args(Encoder)
_RANGES: dict[str, tuple[float, float]] = {
    "length": (2 * (RECENT + 1), 4096),
    "d": (4, 1024),
    "layers": (1, 32),
    "heads": (1, 32),
    "prototypes": (1, 4096),
    "user_dim": (1, 512),
    "dropout": (0, 0.9),
    "contrastive_weight": (0, 10),
    "contrastive_temperature": (0.01, 10),
    "attribute_weight": (0, 10),
    "cnn_dim": (1, 256),
    "cnn_filters": (1, 256),
    "cross_layers": (0, 8),
    "head_hidden": (1, 1024),
    "head_dropout": (0, 0.9),
}


class ModelConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Defaults are the paper's (4.2): 4 layers, 2 heads, length 256. Raises BadInput for a value out of range."""

    encoder: Encoder = "panther"
    """Kind of the layers: the paper's, or a baseline (panther_core.model.baselines); only panther and transformer can
    be encoded incrementally."""
    length: int = 256
    """L, events of the longest context window; even."""
    d: int = 64
    """Width of the encoder; a multiple of `heads`."""
    layers: int = 4
    """Encoder layers."""
    heads: int = 2
    """Attention heads a layer."""
    sprm: bool = True
    """Whether layers have the pattern branch (paper 3.3); off is the plain transformer."""
    prototypes: int = 64
    """m, learnable prototypes of the pattern branch a layer."""
    attribute_embedding: bool = True
    """Whether amount, channel, category and risk are embedded beside the token, so that [UNK] still says something."""
    profile: Literal["none", "first", "positional"] = "positional"
    """How the static profile enters (paper 3.4): not, as a first token, or added at every position."""
    user_dim: int = 32
    """Width of the user embedding e_u."""
    dropout: float = 0.1
    """Dropout on embeddings and branches while training."""
    contrastive_weight: float = 0.1
    """lambda, weight of InfoNCE over profiles (paper 3.4)."""
    contrastive_temperature: float = 0.1
    """tau of InfoNCE."""
    attribute_weight: float = 0.2
    """Weight of the per-attribute prediction heads, whose surprises explain and feed the fraud head."""
    cnn_dim: int = 16
    """Width of the event embedding of the text convolution (f_enc, eq. 3)."""
    cnn_filters: int = 16
    """Filters for each width."""
    cnn_widths: tuple[int, ...] = (2, 3, 4)
    """Widths of the convolution windows in events; at most 4: what a score request carries."""
    cross_layers: int = 2
    """Cross layers of the fraud head (DCN-v2)."""
    head_hidden: int = 128
    """Width of the fraud head's deep part."""
    head_dropout: float = 0.2
    """Dropout of the fraud head's deep part and of its learnt inputs (e_u, text convolution): frauds are few."""

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise BadInput(
                    f"expected {low:g} <= {name} <= {high:g}, got {value!r} in the model config: use a value within"
                )
        if self.encoder not in ENCODERS:
            raise BadInput(
                f"expected an encoder out of {', '.join(ENCODERS)}, got {self.encoder!r} in the model config: name one"
            )
        if self.length % 2:
            raise BadInput(f"expected an even length, got {self.length} in the model config: windows fall to its half")
        if self.d % self.heads:
            raise BadInput(f"expected d to be a multiple of heads, got d = {self.d} and heads = {self.heads}")
        widths = self.cnn_widths
        if not widths or list(widths) != sorted(set(widths)) or not (widths[0] >= 1 and widths[-1] <= RECENT + 1):
            raise BadInput(f"expected ascending cnn_widths between 1 and {RECENT + 1}, got {widths}")

    @property
    def span(self) -> int:
        """S, newest events that the text convolution sees, the one being scored included (paper: 100)."""
        return min(100, self.length // 2)

    @property
    def pooled(self) -> int:
        """Width of the pooled text-convolution features."""
        return self.cnn_filters * len(self.cnn_widths)
