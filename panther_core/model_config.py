"""Shape and losses of the model: every setting with its range. Imports no torch, so that a manifest can be read
where torch is not installed."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

import msgspec

from panther_core.base.errors import BadInput
from panther_core.base.ranges import Range, check_ranges
from panther_core.state.window import RECENT

Encoder = Literal["panther", "transformer", "sasrec", "hstu"]
ENCODERS: tuple[Encoder, ...] = get_args(Encoder)


class ModelConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Defaults are the paper's (4.2): 4 layers, 2 heads, length 256. Raises BadInput for a value out of range."""

    encoder: Encoder = "panther"
    """Kind of the layers: the paper's, or a baseline (panther_core.model.baselines). Only layers of panther and
    transformer can be encoded incrementally."""
    length: Annotated[int, Range(2 * (RECENT + 1), 4096)] = 256
    """L, events of the longest context window; even."""
    d: Annotated[int, Range(4, 1024)] = 64
    """Width of the encoder; a multiple of `heads`."""
    layers: Annotated[int, Range(1, 32)] = 4
    """Encoder layers."""
    heads: Annotated[int, Range(1, 32)] = 2
    """Attention heads a layer."""
    sprm: bool = True
    """Whether layers have the pattern branch (paper 3.3); off is the plain transformer."""
    prototypes: Annotated[int, Range(1, 4096)] = 64
    """m, learnable prototypes of the pattern branch a layer."""
    attribute_embedding: bool = True
    """Whether amount, channel, category and risk are embedded beside the token. With them an event whose combination is
    not in the vocabulary ([UNK]) still differs from other such events."""
    profile: Literal["none", "first", "positional"] = "positional"
    """How the static profile enters (paper 3.4): not at all, as a first token, or added at every position."""
    user_dim: Annotated[int, Range(1, 512)] = 32
    """Width of the user embedding e_u."""
    dropout: Annotated[float, Range(0, 0.9)] = 0.1
    """Dropout on embeddings and branches while training."""
    contrastive_weight: Annotated[float, Range(0, 10)] = 0.1
    """lambda, weight of InfoNCE over profiles (paper 3.4)."""
    contrastive_temperature: Annotated[float, Range(0.01, 10)] = 0.1
    """tau of InfoNCE."""
    attribute_weight: Annotated[float, Range(0, 10)] = 0.2
    """Weight of the per-attribute prediction heads. Their surprises are inputs of the fraud head and reasons of
    alerts."""
    cnn_dim: Annotated[int, Range(1, 256)] = 16
    """Width of the event embedding of the text convolution (f_enc, eq. 3)."""
    cnn_filters: Annotated[int, Range(1, 256)] = 16
    """Filters for each width."""
    cnn_widths: tuple[int, ...] = (2, 3, 4)
    """Widths of the convolution windows in events; at most 4, since a score request carries the new event and 3
    before."""
    cross_layers: Annotated[int, Range(0, 8)] = 2
    """Cross layers of the fraud head (DCN-v2)."""
    head_hidden: Annotated[int, Range(1, 1024)] = 128
    """Width of the fraud head's deep part."""
    head_dropout: Annotated[float, Range(0, 0.9)] = 0.2
    """Dropout of the fraud head's deep part and of its learnt inputs (e_u, text convolution), against overfitting: a
    log holds few frauds."""

    def __post_init__(self) -> None:
        check_ranges(self, "the model config")
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

    @property
    def cached_width(self) -> int:
        """K, the number of floats cached for a user (panther_core.model.outputs has their order)."""
        return self.d + self.user_dim + self.pooled + 3
