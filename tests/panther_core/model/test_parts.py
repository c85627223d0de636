"""The model's parts against plain definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from panther_core.base.errors import BadInput
from panther_core.data.schema import CODE
from panther_core.decide.scoring import ScoreRequest
from panther_core.model.codes import ATTRIBUTES, as_tensor, attributes
from panther_core.model.layers import Sprm
from panther_core.model.outputs import cached_width, unpack
from panther_core.model.serving import PantherModel
from panther_core.model_config import ModelConfig
from tests.panther_core.model.conftest import CONFIG, LENGTH, SCHEMA, make_model, random_codes, random_profiles

CPU = torch.device("cpu")


def test_codes_and_tokens_equal_the_schema_s(model: PantherModel) -> None:
    codes = random_codes(np.random.default_rng(0), 500)
    parts = attributes(as_tensor(codes, CPU))
    for i, name in enumerate(ATTRIBUTES):
        np.testing.assert_array_equal(parts[:, i].numpy(), codes.view(CODE)[name])
    # the vocabulary that make_model fits
    from panther_core.data.vocabulary import fit_vocabulary

    vocabulary, _ = fit_vocabulary(SCHEMA, random_codes(np.random.default_rng(0), 300).view(CODE), top_k=40)
    np.testing.assert_array_equal(model.panther.tokeniser(parts).numpy(), vocabulary.tokens(codes.view(CODE)))


def test_extreme_codes_survive_the_signed_view() -> None:
    codes = np.array([2**64 - 1, 2**63, 0], np.uint64)
    parts = attributes(as_tensor(codes, CPU)).numpy()
    assert parts[0].tolist() == [255, 255, 65535, 255, 255, 255, 255]
    assert parts[1].tolist() == [0, 0, 0, 0, 0, 0, 128]


def test_sprm_convolutions_equal_torch_s() -> None:
    torch.manual_seed(0)
    sprm, u = Sprm(CONFIG), torch.randn(2, 11, CONFIG.d)
    convolved = sprm.bias_D
    for kernel, dilation in ((sprm.near_3D, 1), (sprm.far_3D, 2)):
        weight = kernel.flip(0).T[:, None]  # kernel[i] is for distance i * dilation; torch wants oldest first
        padded = torch.nn.functional.pad(u.transpose(1, 2), (2 * dilation, 0))
        convolved = convolved + torch.conv1d(padded, weight, dilation=dilation, groups=CONFIG.d).transpose(1, 2)
    p = sprm.prototypes_MD
    want = sprm.out(torch.softmax(convolved @ p.T / CONFIG.d**0.5, dim=-1) @ p)
    torch.testing.assert_close(sprm.look_up(sprm.convolve(sprm.taps(u))), want)


def test_log_z_mu_sigma_describe_the_prediction(model: PantherModel) -> None:
    codes = random_codes(np.random.default_rng(1), LENGTH - 1)[None]
    encoded = model.encode(codes, np.array([LENGTH - 1], np.int32), random_profiles(np.random.default_rng(1), 1))
    known = unpack(torch.from_numpy(encoded.cached), CONFIG)
    logits = model.panther.query(known.h_BD) @ model.panther.token_table()
    p = logits.softmax(dim=1)
    torch.testing.assert_close(known.log_z_B, logits.logsumexp(dim=1))
    torch.testing.assert_close(known.mu_B, p.mean(dim=1))
    torch.testing.assert_close(known.sigma_B, p.std(dim=1, correction=0), rtol=1e-3, atol=1e-6)
    likely = p[0, 1:].topk(3).indices + 1
    np.testing.assert_array_equal(encoded.expected[0].view(np.int64), model.panther.tokeniser.codes[likely])


def test_log_p_and_surprise_are_log_probabilities(model: PantherModel) -> None:
    rng = np.random.default_rng(2)
    tokens = model.panther.tokeniser.codes[1:].numpy().view(np.uint64)
    count = len(tokens)
    encoded = model.encode(random_codes(rng, 5)[None], np.array([5], np.int32), random_profiles(rng, 1))
    answer = model.score(
        ScoreRequest(
            features=np.zeros((count, model.head.mean.shape[0] - 10), np.float32),
            code=tokens,
            recent=np.zeros((count, 3), np.uint64),
            profile=np.zeros((count, 8), np.uint8),
            cached=np.repeat(encoded.cached, count, axis=0),
            history_len=np.full(count, 5, np.int32),
        )
    )
    known = unpack(torch.from_numpy(encoded.cached), CONFIG)
    logits = model.panther.query(known.h_BD) @ model.panther.token_table()
    np.testing.assert_allclose(answer.log_p, logits.log_softmax(dim=1)[0, 1:].detach(), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        answer.z, (np.exp(answer.log_p) - float(known.mu_B)) / float(known.sigma_B), rtol=1e-3, atol=1e-4
    )
    for name, log_p in zip(("amount", "channel"), model.panther.attribute_log_probs(known.h_BD), strict=False):
        assert log_p.shape[1] == SCHEMA.sizes[name]
        assert float(log_p.detach().exp().sum()) == pytest.approx(1, abs=1e-5)


def test_unknown_combinations_still_say_what_is_known_of_them(model: PantherModel) -> None:
    codes = random_codes(np.random.default_rng(3), 400)
    tokens = model.panther.tokeniser(attributes(as_tensor(codes, CPU))).numpy()
    unknown = codes[tokens == 0]
    a, b = unknown[0], next(c for c in unknown if (int(c) ^ int(unknown[0])) & 0xFFFFFFFF)
    embedded = model.panther.embed(as_tensor(np.array([[a], [b]]), CPU), torch.zeros(1, dtype=torch.int64))
    assert not torch.allclose(embedded[0], embedded[1])


def test_cached_width_is_what_encode_gives(model: PantherModel) -> None:
    encoded = model.encode(
        random_codes(np.random.default_rng(4), 1)[None], np.ones(1, np.int32), np.zeros((1, 8), np.uint8)
    )
    assert encoded.cached.shape == (1, cached_width(CONFIG))


def test_config_says_what_is_wrong() -> None:
    for wrong, text in (({"length": 17}, "even"), ({"d": 63}, "multiple"), ({"layers": 0}, "layers")):
        with pytest.raises(BadInput, match=text):
            ModelConfig(**wrong)  # type: ignore[arg-type]


def test_same_seed_same_weights() -> None:
    a, b = make_model(seed=1).state_dict(), make_model(seed=1).state_dict()
    assert all(torch.equal(a[name], b[name]) for name in a)
