"""Sparse gradients, complex numbers and lazy layers: strategies do the same as always, or say why not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from strategies import PARAMS
from torch import Tensor, nn

import argus_core
from argus_core import BuildError, Model
from argus_core.steps.sparse import entries, with_entries


class Words(nn.Module):
    """Embeds words, the same one several times in a batch, and classifies them: (batch, 3) -> (batch, 3)."""

    def __init__(self, sparse: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 4, sparse=sparse)
        self.out = nn.Linear(4, 3)

    def forward(self, input: Tensor) -> Tensor:
        output: Tensor = self.out(self.embedding(input).sum(dim=1))
        return output


class Waves(nn.Module):
    """Has complex weights: (batch, 4) -> (batch, 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 3, dtype=torch.complex64))

    def forward(self, input: Tensor) -> Tensor:
        output: Tensor = (input.to(torch.complex64) @ self.weight).abs()
        return output


@pytest.fixture(autouse=True)
def _registry() -> Iterator[None]:
    with argus_core.isolated_registry(builtins=True):
        argus_core.register("nn_module", "words", Words)
        argus_core.register("nn_module", "waves", Waves)
        argus_core.register("nn_module", "lazy", lambda: nn.Sequential(nn.LazyLinear(5), nn.LazyLinear(3)))
        yield


def data() -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    draw = torch.randint
    return [
        (draw(20, (size, 3), generator=generator), draw(3, (size,), generator=generator))
        for size in (8, 8, 5)
    ]


def dense_data() -> list[tuple[Tensor, Tensor]]:
    return [(words[:, :1].float().expand(-1, 4) / 20, target) for words, target in data()]


def build(sparse: bool, steps: list[Any]) -> Model:
    torch.manual_seed(0)
    params = {"nn_module": ("words", {"sparse": sparse}), "optimizer": ("SGD", {"lr": 0.5})}
    return Model({**PARAMS, **params, "step": steps})


STEPS: dict[str, list[Any]] = {
    "clip_grad_norm": [("clip_grad_norm", {"max_norm": 0.1})],
    "clip_grad_norm inf": [("clip_grad_norm", {"max_norm": 0.01, "norm_type": float("inf")})],
    "clip_grad_value": [("clip_grad_value", {"clip_value": 0.01})],
    "sam": [("sam", {"rho": 0.5})],
    "adaptive sam": [("sam", {"rho": 0.5, "adaptive": True})],
    "finite_guard": ["finite_guard"],
    "float16": [("amp", {"dtype": "float16", "init_scale": 2.0**8})],
    "all": [
        ("accumulate", {"steps": 2}),
        ("microbatch", {"size": 3}),
        ("clip_grad_value", {"clip_value": 0.05}),
        ("clip_grad_norm", {"max_norm": 0.1}),
        ("sam", {"rho": 0.5}),
        "finite_guard",
        ("ema", {"decay": 0.5}),
    ],
}


@pytest.mark.parametrize("steps", STEPS.values(), ids=STEPS)
def test_an_update_from_sparse_gradients_is_that_from_dense_ones(steps: list[Any]) -> None:
    models = [build(sparse, steps) for sparse in (True, False)]
    results = [model.fit(data(), data(), num_epochs=2) for model in models]
    assert models[0].nn_module.embedding.weight.grad.is_sparse
    assert results[0] == pytest.approx(results[1], rel=1e-5)
    for one, other in zip(*(model.nn_module.parameters() for model in models), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-3 if "amp" in str(steps) else 1e-6)


def test_clipping_is_felt(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = [build(True, steps) for steps in ([], STEPS["clip_grad_norm"], STEPS["clip_grad_value"])]
    for model in ends:
        model.fit(data())
    weights = [model.nn_module.embedding.weight for model in ends]
    assert not torch.allclose(weights[0], weights[1], atol=1e-3)
    assert not torch.allclose(weights[0], weights[2], atol=1e-3)


def test_an_optimizer_of_sparse_gradients_alone_trains() -> None:
    argus_core.register("nn_module", "bag", lambda: nn.EmbeddingBag(20, 3, sparse=True))
    steps = [("clip_grad_norm", {"max_norm": 0.1}), "finite_guard", "ema", ("accumulate", {"steps": 2})]
    model = Model({**PARAMS, "nn_module": "bag", "optimizer": ("SparseAdam", {"lr": 0.1}), "step": steps})
    before = model.validate(data())["val_loss"]
    model.fit(data(), num_epochs=20)
    assert model.validate(data())["val_loss"] < before


def test_a_gradient_that_is_not_finite_is_seen_though_it_is_sparse() -> None:
    model = build(True, ["finite_guard"])
    with torch.no_grad():
        model.nn_module.embedding.weight[data()[0][0][0, 0]] = float("inf")
    with pytest.raises(argus_core.ArgusError, match="the update is not finite"):
        model.fit(data())


def test_entries_are_those_of_the_gradient_itself() -> None:
    parameter = nn.Parameter(torch.zeros(4))
    parameter.grad = torch.sparse_coo_tensor([[1, 1, 3]], [1.0, 2.0, 4.0], (4,), check_invariants=True)
    assert entries(parameter.grad).tolist() == [3.0, 4.0]
    (stand_in,) = with_entries([parameter])
    assert stand_in.grad is not None
    stand_in.grad.mul_(2)
    assert parameter.grad.to_dense().tolist() == [0.0, 6.0, 0.0, 8.0]
    dense = nn.Parameter(torch.zeros(4))
    assert with_entries([dense])[0] is dense


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (("clip_grad_value", {"clip_value": 0.1}), "two others, and 'weight' is complex; use clip_grad_norm"),
        (
            ("amp", {"dtype": "float16"}),
            "amp with float16 cannot unscale complex gradients, and 'weight' is complex; choose",
        ),
    ],
)
def test_what_complex_numbers_have_not_is_refused(step: Any, message: str) -> None:
    with pytest.raises(BuildError, match=message):
        Model({**PARAMS, "nn_module": "waves", "step": [step]}).fit(dense_data())


@pytest.mark.parametrize(
    "step",
    [("clip_grad_norm", {"max_norm": 0.1}), "sam", "finite_guard", "ema", ("amp", {"dtype": "bfloat16"})],
)
def test_complex_weights_train_with_the_others(step: Any) -> None:
    model = Model({**PARAMS, "nn_module": "waves", "step": [step]})
    before = model.nn_module.weight.detach().clone()
    assert model.fit(dense_data(), dense_data())["val_loss"] > 0
    assert not torch.equal(model.nn_module.weight, before)


def test_averages_of_lazy_layers_are_refused_until_they_have_shapes() -> None:
    params = {**PARAMS, "nn_module": "lazy", "step": ["ema"]}
    with pytest.raises(
        BuildError,
        match=r"averages weights, and '0.weight' of a lazy layer has no shape yet; give",
    ):
        Model(params).fit(dense_data())
    model = Model(params)
    model.nn_module(dense_data()[0][0])
    assert model.fit(dense_data(), dense_data())["val_loss"] > 0


@pytest.mark.parametrize(
    "step", ["sam", "channels_last", "finite_guard", ("clip_grad_norm", {"max_norm": 1.0})]
)
def test_lazy_layers_take_their_shapes_in_the_first_update(step: Any) -> None:
    model = Model({**PARAMS, "nn_module": "lazy", "step": [step]})
    model.fit(dense_data())
    assert model.nn_module[0].weight.shape == (5, 4)
