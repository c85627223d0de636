"""The behaviour model (paper 3): embeddings, causal layers, and the predictions made from the state after each event.

Shapes: B rows, T positions (T <= L, padded on the right with zero codes), D width, V tokens, A attributes, U width of
e_u, N rows of any origin.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from panther_core.data.schema import AttributeSchema
from panther_core.data.vocabulary import Vocabulary
from panther_core.decide.scoring import SURPRISE
from panther_core.model.baselines import encoder_layers
from panther_core.model.codes import ATTRIBUTES, TOKEN_ATTRIBUTES, Tokeniser, attributes, sizes
from panther_core.model.layers import Layer
from panther_core.model_config import ModelConfig

_MAX_TEMPERATURE = 100.0


class Panther(nn.Module):
    """The encoder, pretrained without labels to predict the next transaction.

    All embeddings of events are rows of one matrix, `table`: row t is token t, then come the codes of each attribute.
    A token's embedding is its row plus the rows of its attributes; input and output (`token_table`) share them.
    """

    def __init__(self, config: ModelConfig, schema: AttributeSchema, vocabulary: Vocabulary) -> None:
        super().__init__()
        d = config.d
        self.config = config
        self.tokeniser = Tokeniser(vocabulary)
        counts = sizes(schema)
        self.surprise_sizes = [counts[ATTRIBUTES.index(name)] for name in SURPRISE]
        offsets = [vocabulary.size]
        for count in counts[:-1]:
            offsets.append(offsets[-1] + count)
        self._embedded = [
            i for i, name in enumerate(ATTRIBUTES) if config.attribute_embedding or name not in TOKEN_ATTRIBUTES
        ]
        self.register_buffer("offsets", torch.tensor(offsets), persistent=False)
        self.offsets: Tensor
        self.table = nn.Parameter(torch.randn(vocabulary.size + sum(counts), d) * 0.3)
        self.position_TD = nn.Parameter(torch.randn(config.length, d) * 0.1)
        fields = [field.size for field in schema.profile]
        self.profile_offsets = [sum(fields[:i]) for i in range(len(fields))]
        self.profile_table = nn.Parameter(torch.randn(max(1, sum(fields)), d) * 0.3)
        self.profile_mlp = nn.Sequential(nn.Linear(d, d), nn.GELU(), nn.Linear(d, d))
        self.start_D = nn.Parameter(torch.randn(d) * 0.3)
        self.layers = encoder_layers(config)
        self.norm = nn.LayerNorm(d)
        self.log_temperature = nn.Parameter(torch.tensor(10.0).log())
        self.attribute_heads = nn.Linear(d, sum(self.surprise_sizes))
        self.user_head = nn.Sequential(nn.Linear(d, d), nn.GELU(), nn.Linear(d, config.user_dim))
        self.dropout = nn.Dropout(config.dropout)

    def embed(self, codes_BT: Tensor, position: Tensor) -> Tensor:
        """Embeddings [B, T, D] of events at window positions `position` (broadcast to [B, T]), without the profile."""
        return self.embed_parts(attributes(codes_BT), position)

    def embed_parts(self, parts: Tensor, position: Tensor) -> Tensor:
        """As `embed`, of attribute codes [B, T, 7] instead of packed ones."""
        rows = torch.cat(
            [self.tokeniser(parts)[..., None], parts[..., self._embedded] + self.offsets[self._embedded]], dim=-1
        )
        events = F.embedding_bag(rows.flatten(0, -2), self.table, mode="sum").view(*parts.shape[:-1], -1)
        return events + self.position_TD[position]

    def profile_vector(self, profile_N8: Tensor) -> Tensor:
        """Embedding [N, D] of profile codes; zeros when the model does not use profiles."""
        if self.config.profile == "none" or not self.profile_offsets:
            return self.position_TD.new_zeros(len(profile_N8), self.config.d)
        fields = len(self.profile_offsets)
        rows = profile_N8[:, :fields].long() + torch.tensor(self.profile_offsets, device=profile_N8.device)
        out: Tensor = self.profile_mlp(F.embedding_bag(rows, self.profile_table, mode="sum"))
        return out

    def inputs(self, codes_BT: Tensor, profile_B8: Tensor) -> Tensor:
        """Input of the first layer, [B, T, D]; [B, T + 1, D] where the profile is a token of its own, in front."""
        p_BD = self.profile_vector(profile_B8)
        x_BTD = self.embed(codes_BT, torch.arange(codes_BT.shape[1], device=codes_BT.device))
        if self.config.profile == "first":
            return torch.cat([p_BD[:, None], x_BTD], dim=1)
        return x_BTD + p_BD[:, None]

    def forward(self, codes_BT: Tensor, profile_B8: Tensor) -> Tensor:
        """h [B, T, D] after each event of the windows `codes_BT` (int64 bits of CODE)."""
        x_BTD = self.dropout(self.inputs(codes_BT, profile_B8))
        for layer in self.layers:
            x_BTD = layer(x_BTD)
        h_BTD: Tensor = self.norm(x_BTD)
        return h_BTD[:, 1:] if self.config.profile == "first" else h_BTD

    def since(self, codes_BT: Tensor, profile_B8: Tensor, start: int) -> Tensor:
        """h [B, T - start, D] after the events from position `start` on; the last layer skips earlier positions."""
        last = self.layers[-1]
        if not isinstance(last, Layer):  # a baseline
            every_BTD: Tensor = self(codes_BT, profile_B8)
            return every_BTD[:, start:]
        x_BTD = self.inputs(codes_BT, profile_B8)
        for layer in self.layers[:-1]:
            x_BTD = layer(x_BTD)
        h_BSD: Tensor = self.norm(last.since(x_BTD, start + (self.config.profile == "first")))
        return h_BSD

    def newest(self, codes_BT: Tensor, profile_B8: Tensor, last_B: Tensor) -> Tensor:
        """h [B, D] after event `last` of each window; the last layer skips the other positions."""
        last = self.layers[-1]
        if not isinstance(last, Layer):  # a baseline
            every_BTD: Tensor = self(codes_BT, profile_B8)
            return every_BTD[torch.arange(len(last_B), device=last_B.device), last_B]
        x_BTD = self.inputs(codes_BT, profile_B8)
        for layer in self.layers[:-1]:
            x_BTD = layer(x_BTD)
        at_B = last_B + (self.config.profile == "first")
        h_BD: Tensor = self.norm(last.newest(x_BTD, last.norm(x_BTD), at_B)[0])
        return h_BD

    def start(self, profile_N8: Tensor) -> Tensor:
        """h [N, D] of users without events, from which their first event is predicted by the profile alone."""
        h: Tensor = self.norm(self.start_D + self.profile_vector(profile_N8))
        return h

    def token_rows(self, tokens_N: Tensor) -> Tensor:
        """Output embeddings [N, D] of tokens: the composed embedding at unit length, times the learnt temperature."""
        e_ND = self.table[tokens_N]
        if self.config.attribute_embedding:
            at = torch.arange(len(TOKEN_ATTRIBUTES), device=self.table.device)
            rows = attributes(self.tokeniser.codes[tokens_N])[:, at] + self.offsets[at]
            e_ND = e_ND + F.embedding_bag(rows, self.table, mode="sum")
        return F.normalize(e_ND, dim=1) * self.log_temperature.exp().clamp(max=_MAX_TEMPERATURE)

    def token_table(self) -> Tensor:
        """Output embeddings of the whole vocabulary, transposed, [D, V]."""
        return self.token_rows(torch.arange(self.tokeniser.size, device=self.table.device)).T

    def query(self, h: Tensor) -> Tensor:
        """Unit vectors [..., D] whose products with `token_table` are the next-token logits."""
        return F.normalize(h, dim=-1)

    def user_embedding(self, h: Tensor) -> Tensor:
        """e_u [..., U], unit length."""
        return F.normalize(self.user_head(h), dim=-1)

    def attribute_log_probs(self, h_ND: Tensor) -> list[Tensor]:
        """Log probabilities [N, codes] of the next event's attributes, in the order of scoring.SURPRISE."""
        return [logits.log_softmax(dim=-1) for logits in self.attribute_heads(h_ND).split(self.surprise_sizes, dim=-1)]

    def surprise(self, h_ND: Tensor, attributes_N7: Tensor) -> Tensor:
        """-log p [N, A] of each attribute of the event that followed state h, nats."""
        columns = [
            -log_p.gather(1, attributes_N7[:, ATTRIBUTES.index(name), None])
            for name, log_p in zip(SURPRISE, self.attribute_log_probs(h_ND), strict=True)
        ]
        return torch.cat(columns, dim=1)
