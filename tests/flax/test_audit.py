"""The audit of a linen module: each fault is found by its rule alone, a healthy module is silent."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from thinned.flax import linen
from thinned.flax.linen import audit

X = jnp.asarray(np.random.default_rng(0).standard_normal((64, 32)), jnp.float32)


def net(forward):
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x, deterministic):
            return nn.Dense(4)(forward(nn.Dense(32)(x), deterministic))

    return Net()


class UnscaledDropout(nn.Module):
    rate: float

    @nn.compact
    def __call__(self, x, deterministic):
        keep = jax.random.bernoulli(self.make_rng("dropout"), 1 - self.rate, x.shape)
        return x if deterministic else x * keep


class KeepDropout(nn.Module):
    rate: float

    @nn.compact
    def __call__(self, x, deterministic):
        keep = jax.random.bernoulli(self.make_rng("dropout"), self.rate, x.shape)
        return x if deterministic else x * keep / self.rate


def dropout(x, deterministic, rng=None, rate=0.5):
    return nn.Dropout(rate, deterministic=deterministic)(x, rng=rng)


FAULTS = {
    "THN401": net(lambda x, d: dropout(x, False)),
    "THN402": net(lambda x, d: dropout(x, True)),
    "THN403": net(lambda x, d: UnscaledDropout(0.3)(x, d)),
    "THN404": net(lambda x, d: KeepDropout(0.9)(x, d)),
    "THN407": net(lambda x, d: dropout(x, d, jax.random.key(7))),
    "THN410": net(lambda x, d: dropout(dropout(x, d), d)),
    "THN412": net(lambda x, d: dropout(nn.BatchNorm(use_running_average=False)(x), d)),
}
HEALTHY = {
    "flax": net(dropout),
    "ours": net(lambda x, d: linen.Dropout(0.5, deterministic=d)(x)),
    "our path": net(lambda x, d: linen.DropPath(0.5, deterministic=d)(x)),
    "normalised first": net(lambda x, d: dropout(nn.BatchNorm(use_running_average=d)(x), d)),
    "no dropout": net(lambda x, d: x),
}


@pytest.mark.parametrize("code", FAULTS)
def test_a_planted_fault_is_found_by_its_rule_alone(code):
    module = FAULTS[code]
    variables = module.init({"params": jax.random.key(0), "dropout": jax.random.key(1)}, X, True)
    assert {finding.code for finding in audit(module, variables, X).findings} == {code}


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_module_is_silent(name):
    variables = HEALTHY[name].init(jax.random.key(0), X, True)
    assert [str(finding) for finding in audit(HEALTHY[name], variables, X).findings] == []


def test_other_words_for_the_mode():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x, train):
            return nn.Dropout(0.5, deterministic=not train)(x)

    result = audit(Net(), {}, X, train={"train": True}, evaluate={"train": False})
    assert [site["name"] for site in result.sites] == ["Dropout_0"]
    assert not result.findings


def test_wrong_arguments_are_named():
    with pytest.raises(TypeError, match="module must be a linen Module, got int"):
        audit(3, {}, X)
    with pytest.raises(ValueError, match="repeats must be at least 2, got 1"):
        audit(HEALTHY["flax"], {}, X, repeats=1)


class Scanned(nn.Module):
    @nn.compact
    def __call__(self, x, deterministic):
        class Block(nn.Module):
            @nn.compact
            def __call__(self, x, deterministic):
                return nn.Dropout(0.5)(nn.Dense(32)(x), deterministic=deterministic), None

        rngs = {"params": True, "dropout": True}
        scan = nn.scan(Block, variable_axes={"params": 0}, split_rngs=rngs, length=2, in_axes=nn.broadcast)
        return scan()(x, deterministic)[0]


class Compiled(nn.Module):
    @nn.compact
    def __call__(self, x, deterministic):
        class Block(nn.Module):
            @nn.compact
            def __call__(self, x):
                return nn.Dropout(0.5)(x, deterministic=deterministic)

        return nn.jit(Block)()(x)


@pytest.mark.parametrize("module", [Scanned(), Compiled()], ids=["scan", "jit"])
def test_sites_inside_of_a_scan_or_a_compiled_function_are_seen(module):
    variables = module.init(jax.random.key(0), X, True)
    result = audit(module, variables, X, repeats=2)
    assert [str(finding) for finding in result.findings] == []
    assert result.sites


def test_what_draws_in_evaluation_inside_is_found():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x, deterministic):
            noise = jax.random.normal(self.make_rng("noise"), x.shape)
            return {"y": (nn.Dropout(0.5)(x, deterministic=deterministic) + noise,)}

    result = audit(Net(), {}, X, streams=["dropout", "noise"], repeats=2)
    assert [finding.code for finding in result.findings] == ["THN401"]


def test_a_module_that_raises_says_so_itself():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x, deterministic):
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        audit(Net(), {}, X)
