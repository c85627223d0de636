"""The baselines' layers: causal, as their papers write them, and usable where Panther is trained."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from panther_core.base.errors import BadInput
from panther_core.model.baselines import HstuLayer, SasRecLayer, encoder_layers
from panther_core.model.incremental import IncrementalEncoder
from panther_core.model.layers import Layer
from panther_core.model_config import ENCODERS, Encoder, ModelConfig
from tests.panther_core.model.conftest import CONFIG, make_model, random_codes


def with_encoder(encoder: Encoder) -> ModelConfig:
    return msgspec.structs.replace(CONFIG, encoder=encoder, dropout=0.3)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_an_item_changes_nothing_before_it(encoder: Encoder) -> None:
    torch.manual_seed(0)
    layers = encoder_layers(with_encoder(encoder)).eval()
    x = torch.randn(3, 12, CONFIG.d)
    changed = x.clone()
    changed[:, 7] = torch.randn(3, CONFIG.d)
    for layer in layers:
        x, changed = layer(x), layer(changed)
    torch.testing.assert_close(x[:, :7], changed[:, :7], rtol=0, atol=0)
    assert (x[:, 7] - changed[:, 7]).abs().amax() > 1e-3
    assert (x[:, 8:] - changed[:, 8:]).abs().amax() > 1e-4


def test_names_choose_the_layers() -> None:
    assert isinstance(encoder_layers(with_encoder("sasrec"))[0], SasRecLayer)
    assert isinstance(encoder_layers(with_encoder("hstu"))[0], HstuLayer)
    plain, panther = encoder_layers(with_encoder("transformer"))[0], encoder_layers(with_encoder("panther"))[0]
    assert isinstance(plain, Layer)
    assert isinstance(panther, Layer)
    assert plain.sprm is None
    assert panther.sprm is not None
    with pytest.raises(BadInput, match="encoder"):
        with_encoder("gru")  # type: ignore[arg-type]


def test_hstu_is_its_equations_position_by_position() -> None:
    torch.manual_seed(1)
    config = with_encoder("hstu")
    layer = HstuLayer(config).eval()
    x = torch.randn(1, 5, config.d)
    u, v, q, k = F.silu(layer.uvqk(layer.norm(x)))[0].split(config.d, dim=1)
    wide = config.d // config.heads
    for t in range(5):
        heads = []
        for h in range(config.heads):
            part = slice(h * wide, (h + 1) * wide)
            terms = [F.silu(q[t, part] @ k[s, part] + layer.bias_N[t - s]) * v[s, part] for s in range(t + 1)]
            heads.append(torch.stack(terms).sum(dim=0) / config.length)
        want = x[0, t] + layer.out(layer.attended_norm(torch.cat(heads)) * u[t])
        torch.testing.assert_close(layer(x)[0, t], want)


def test_sasrec_is_its_equations_position_by_position() -> None:
    torch.manual_seed(2)
    config = with_encoder("sasrec")
    layer = SasRecLayer(config).eval()
    x = torch.randn(1, 5, config.d)
    q, k, v = layer.qkv(layer.norm(x))[0].split(config.d, dim=1)
    wide = config.d // config.heads
    for t in range(5):
        heads = []
        for h in range(config.heads):
            part = slice(h * wide, (h + 1) * wide)
            heads.append(torch.softmax(k[: t + 1, part] @ q[t, part] / wide**0.5, dim=0) @ v[: t + 1, part])
        y = x[0, t] + torch.cat(heads)
        first, _, _, second = layer.ffn
        want = y + second(F.relu(first(layer.ffn_norm(y))))
        torch.testing.assert_close(layer(x)[0, t], want)


@pytest.mark.parametrize("encoder", ["sasrec", "hstu"])
def test_panther_trains_with_a_baseline_and_the_incremental_encoder_refuses_it(encoder: Encoder) -> None:
    model = make_model(msgspec.structs.replace(CONFIG, encoder=encoder))
    codes = random_codes(np.random.default_rng(0), 5)[None]
    answer = model.encode(codes, np.array([5], np.int32), np.zeros((1, 8), np.uint8))
    assert np.isfinite(answer.cached).all()
    with pytest.raises(BadInput, match=rf"panther, transformer.*got '{encoder}'"):
        IncrementalEncoder(model, 1 << 24)


def test_a_config_written_before_there_were_encoders_still_loads(tmp_path: Path) -> None:
    old = json.loads(msgspec.json.encode(CONFIG))
    del old["encoder"]
    assert msgspec.json.decode(json.dumps(old).encode(), type=ModelConfig) == CONFIG
