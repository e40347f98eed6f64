"""Dropout of DTensors: slices of one mask, on any mesh, with no communication."""

import copy
import math

import torch
import torch.distributed as dist
from ranks import on
from slices import KEY, S0, S1, R, divided, everywhere, layouts, raises, same, values
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import (
    DTensor,
    Partial,
    distribute_tensor,
)
from torch.distributed.tensor.debug import CommDebugMode
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.distributed.tensor.placement_types import _StridedShard
from torch.utils.checkpoint import checkpoint

from thinned import Key
from thinned.torch import functional, keyed, nn, set_rows, set_step


def dropout_and_noise_shapes():
    x = values(9, 14)
    for noise in (None, (None, 1), (1, None), (1, 1)):
        for mode in ("inverted", "classic"):
            everywhere(
                lambda x, n=noise, m=mode: functional.dropout(x, 0.4, True, key=KEY, noise_shape=n, mode=m), x
            )


def uneven_and_empty_parts():
    """Of 3 rows 4 ranks leave one without any; a part of one row is no shared row."""
    for shape in ((3, 7), (5, 5), (2, 1), (0, 4), (1, 6)):
        for noise in (None, (None, 1)):
            everywhere(
                lambda x, n=noise: functional.dropout(x, 0.4, True, key=KEY, noise_shape=n), values(*shape)
            )


def element_types():
    for dtype in (torch.float64, torch.float16, torch.bfloat16):
        everywhere(lambda x: functional.dropout(x, 0.1, True, key=KEY), values(9, 14).to(dtype))


def rates():
    x = values(9, 14)
    for p in (0.0, 1e-12, 1.0, torch.tensor(0.3), torch.linspace(0, 1, 9)[:, None], torch.rand(1, 14)):
        if isinstance(p, torch.Tensor) and p.shape == (1, 14):
            p = torch.linspace(0, 1, 14)[None]
        everywhere(lambda x, p=p: functional.dropout(x, p, True, key=KEY), x)
    for mode in ("inverted", "classic"):
        everywhere(lambda x, m=mode: functional.dropout(x, 0.3, False, key=KEY, mode=m), x)


def rates_that_are_dtensors():
    x, p = values(8, 12), torch.linspace(0, 1, 8)[:, None]
    expected = functional.dropout(x, p, True, key=KEY)
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for at_x, at_p in ((S0, S0), (S0, R), (S1, R), (R, R)):
        got = functional.dropout(divided(x, mesh, [at_x]), divided(p, mesh, [at_p]), True, key=KEY)
        same(got, expected, mesh, [at_x])
    where = divided(x, mesh, [S1])
    raises(
        ValueError,
        "not on the ranks that need it",
        functional.dropout,
        where,
        divided(p, mesh, [S0]),
        True,
        key=KEY,
    )
    raises(
        TypeError,
        "p is a DTensor and the input is not",
        functional.dropout,
        x,
        divided(p, mesh, [R]),
        True,
        key=KEY,
    )


def not_a_number_is_dropped():
    whole = torch.full((9, 14), math.nan)
    for mesh, placements in layouts(0, 1):
        x = divided(whole, mesh, placements).requires_grad_()
        y = functional.dropout(x, 0.5, True, key=KEY)
        lost = divided(~functional.keep_mask((9, 14), 0.5, key=KEY), mesh, placements).to_local()
        y.backward(divided(whole, mesh, placements))
        assert (y.to_local()[lost] == 0).all()
        assert (x.grad.to_local()[lost] == 0).all()


def in_place():
    def thin(x):
        return functional.dropout(x * 1, 0.4, True, True, key=KEY)

    everywhere(thin, values(9, 14))
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    x = divided(values(9, 14), mesh, [S1])
    memory = x.to_local().data_ptr()
    assert functional.dropout(x, 0.4, True, inplace=True, key=KEY) is x
    assert x.to_local().data_ptr() == memory
    same(x, thin(values(9, 14)), mesh, [S1])


def every_verb():
    x, maps, sequence = values(9, 14), values(9, 14, 3, 3), values(9, 14, 5)
    at = {"training": True, "key": KEY}
    everywhere(lambda x: functional.gaussian_dropout(x, 0.4, **at), x)
    everywhere(lambda x: functional.alpha_dropout(x, 0.4, **at), x)
    everywhere(lambda x, y: functional.dropout_add(x, y, 0.4, **at), x, values(9, 14, seed=1))
    everywhere(lambda x, y: functional.zoneout(x, y, 0.4, **at), x, values(9, 14, seed=1))
    everywhere(lambda x: functional.drop_path(x, 0.4, **at), x)
    everywhere(lambda x: functional.stochastic_depth(x, 0.4, "batch", **at), x)
    everywhere(lambda x: functional.dropout1d(x, 0.4, **at), sequence, dims=(0, 1, 2))
    everywhere(lambda x: functional.dropout2d(x, 0.4, **at), maps)
    everywhere(lambda x: functional.dropout3d(x, 0.4, **at), values(9, 6, 2, 3, 3))
    everywhere(lambda x: functional.feature_alpha_dropout(x, 0.4, **at), sequence, dims=(0, 2))
    everywhere(lambda x: functional.locked_dropout(x, 0.4, batch_first=True, **at), sequence)
    everywhere(lambda x: functional.locked_dropout(x, 0.4, batch_first=False, **at), sequence)
    everywhere(lambda x: functional.drop_block2d(x, 0.3, 2, **at), maps, dims=(0,))


def every_layer():
    sequence, maps = values(8, 6, 4), values(8, 6, 4, 4)
    layers = {
        nn.Dropout(0.4): sequence,
        nn.Dropout(0.4, noise_shape=(None, 1, None)): sequence,
        nn.Dropout1d(0.4): sequence,
        nn.Dropout2d(0.4): maps,
        nn.Dropout3d(0.4): values(8, 6, 2, 2, 2),
        nn.AlphaDropout(0.4): sequence,
        nn.FeatureAlphaDropout(0.4): sequence,
        nn.GaussianDropout(0.4): sequence,
        nn.LockedDropout(0.4, batch_first=True): sequence,
        nn.DropPath(0.4): sequence,
        nn.StochasticDepth(0.4, "row"): sequence,
    }
    for n, (layer, x) in enumerate(layers.items()):
        model = set_step(keyed(torch.nn.Sequential(layer), Key(n)), n)
        everywhere(model, x)
    everywhere(keyed(torch.nn.Sequential(nn.DropBlock2d(0.3, 2)), 1), maps, dims=(0,))
    add = keyed(torch.nn.ModuleList([nn.DropoutAdd(0.4)]), 1)[0]
    everywhere(add, sequence, values(8, 6, 4, seed=1))


def nothing_is_saved():
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    x = divided(values(9, 14), mesh, [S0]).requires_grad_()
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.numel()) or t, lambda t: t):
        functional.dropout(x, 0.4, True, key=KEY).sum().backward()
    assert sorted(saved) == [1, 2], "p and the key"


def pending_sums():
    """Dropout is linear: the mask of a sum is the mask of each addend, and the sum stays pending."""
    world = dist.get_world_size()
    mesh = init_device_mesh("cpu", (world,))
    for reduce, factor in (("sum", world), ("avg", 1), ("max", 1), ("min", 1)):
        pending = DTensor.from_local(values(9, 14), mesh, [Partial(reduce)], run_check=False)
        with CommDebugMode() as communication:
            y = functional.dropout(pending, 0.5, True, key=KEY)
        assert communication.get_total_counts() == 0
        assert tuple(y.placements) == (Partial(reduce),)
        # A half keeps all products exact.
        assert torch.equal(y.full_tensor(), functional.dropout(values(9, 14) * factor, 0.5, True, key=KEY))
    product = DTensor.from_local(values(9, 14), mesh, [Partial("product")], run_check=False)
    raises(ValueError, "reduce it first", functional.dropout, product, 0.5, True, key=KEY)
    highest = DTensor.from_local(values(9, 14), mesh, [Partial("max")], run_check=False)
    raises(ValueError, "reduce it first", functional.gaussian_dropout, highest, 0.5, True, key=KEY)


def a_pending_gradient():
    """The gradient of a replicated input is often a sum over ranks that has not been taken."""
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    x = divided(values(8, 4), mesh, [R]).requires_grad_()
    y = functional.dropout(x, 0.5, True, key=KEY).redistribute(placements=[S0])
    (y * y).to_local().sum().backward()
    expected = values(8, 4).requires_grad_()
    functional.dropout(expected, 0.5, True, key=KEY).square().sum().backward()
    torch.testing.assert_close(x.grad.full_tensor(), expected.grad, rtol=1e-6, atol=0)


def keys():
    """A drawn key has to be one that all ranks draw; ranks here are seeded apart."""
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    x = divided(values(8, 4), mesh, [R])
    words = "needs a key that all ranks share"
    state = torch.get_rng_state()
    raises(RuntimeError, words, functional.dropout, x, 0.5, True)
    raises(RuntimeError, words, functional.gaussian_dropout, x, 0.5, True)
    raises(RuntimeError, words, functional.alpha_dropout, x, 0.5, True)
    raises(RuntimeError, words, functional.zoneout, x, x, 0.5, True)
    raises(RuntimeError, words, nn.Dropout(0.5), x)
    raises(
        RuntimeError,
        words,
        functional.drop_connect_linear,
        x,
        divided(values(3, 4), mesh, [R]),
        None,
        0.5,
        True,
    )
    raises(RuntimeError, words, functional.embedding_dropout, x, divided(values(3, 4), mesh, [R]), 0.5, True)
    raises(RuntimeError, words, functional.drop_block1d, x[None], 0.5, 2, True)
    q = x[None]
    attend = functional.scaled_dot_product_attention
    raises(RuntimeError, "needs a dropout_key that all", attend, q, q, q, dropout_p=0.5, training=True)
    assert torch.equal(torch.get_rng_state(), state), "refused before anything was drawn"
    assert functional.dropout(x, 0.5, False) is x
    generator = torch.Generator().manual_seed(5)
    y = functional.dropout(x, 0.5, True, generator=generator)
    expected = functional.dropout(values(8, 4), 0.5, True, generator=torch.Generator().manual_seed(5))
    same(y, expected, mesh, [R])
    torch.manual_seed(7)
    y = functional.dropout(x, 0.5, True, generator=torch.default_generator)
    torch.manual_seed(7)
    same(y, functional.dropout(values(8, 4), 0.5, True), mesh, [R])


def parts_that_are_no_slices():
    world = dist.get_world_size()
    mesh = init_device_mesh("cpu", (world,))
    # Of 4 n + 1 rows torch.chunk gives the first ranks more than the last.
    here = 5 if dist.get_rank() == world - 1 else 4
    whole = {"shape": (4 * world + 1, 3), "stride": (3, 1)}
    ragged = DTensor.from_local(values(here, 3), mesh, [S0], run_check=False, **whole)
    raises(ValueError, "give DTensor.from_local the shape", functional.dropout, ragged, 0.5, True, key=KEY)
    strided = distribute_tensor(values(8, 3), mesh, [S0], src_data_rank=None)
    strided = DTensor.from_local(
        strided.to_local(),
        mesh,
        [_StridedShard(0, split_factor=2)],
        run_check=False,
        shape=strided.shape,
        stride=strided.stride(),
    )
    raises(ValueError, "more than one slice", functional.dropout, strided, 0.5, True, key=KEY)
    maps = divided(values(8, 4, 5, 5), mesh, [S1])
    raises(ValueError, "needs whole samples", functional.drop_block2d, maps, 0.3, 2, True, key=KEY)


@on(4)
def some_ranks_only():
    """A rank outside the mesh holds nothing, and has nothing to do."""
    mesh = DeviceMesh("cpu", torch.arange(2))
    x = values(9, 14)
    d = distribute_tensor(x, mesh, [S0], src_data_rank=None)
    y = functional.dropout(d, 0.5, True, key=KEY)
    if dist.get_rank() < 2:
        same(y, functional.dropout(x, 0.5, True, key=KEY), mesh, [S0])
    else:
        assert not y.to_local().numel()


def rows_of_a_larger_batch():
    """A DTensor over some ranks, whose batch is a part of the whole: tensor-parallel within data-parallel."""
    model = keyed(torch.nn.Sequential(nn.Dropout(0.4), nn.Dropout1d(0.4)), 1)
    whole = values(12, 6, 5)
    expected = model(whole)
    for rows in (range(4, 12), range(1, 12, 3)):
        set_rows(model, rows, 12)
        at = torch.tensor(list(rows))
        for mesh, placements in layouts(0, 1, 2):
            y = model(divided(whole[at], mesh, placements))
            same(y, expected[at], mesh, placements)
    set_rows(model, None)


def attention():
    """Heads and samples divided: the probabilities' mask is that of all heads."""
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    q, k, v = (values(4, 4, 6, 8, seed=n) for n in range(3))
    for more in ({}, {"is_causal": True}, {"attn_mask": torch.ones(6, 6).tril().bool()}):

        def attend(q, k, v, more=more):
            return functional.scaled_dot_product_attention(
                q, k, v, dropout_p=0.3, training=True, dropout_key=KEY, **more
            )

        expected = attend(q, k, v)
        for placements in ((S0,), (S1,)):  # torch plans products on two axes for many seconds
            parts = [divided(x, mesh, placements).requires_grad_() for x in (q, k, v)]
            with CommDebugMode() as communication:
                y = attend(*parts)
                y.backward(divided(values(*expected.shape), mesh, placements))
            assert communication.get_total_counts() == 0, communication.get_comm_counts()
            assert tuple(y.placements) == placements
            part = divided(expected, mesh, placements).to_local()
            torch.testing.assert_close(y.to_local(), part, rtol=1e-5, atol=1e-6)


def weights_and_words():
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    x, weight, bias = values(8, 6), values(4, 6), values(4)
    at = {"training": True, "key": KEY}
    expected = functional.drop_connect_linear(x, weight, bias, 0.5, **at)
    inputs = [divided(x, mesh, [S0]), divided(weight, mesh, [R]), divided(bias, mesh, [R])]
    got = functional.drop_connect_linear(*inputs, 0.5, **at)
    torch.testing.assert_close(got.full_tensor(), expected, rtol=1e-5, atol=1e-6)
    words = torch.tensor([[0, 1, 2, 7], [4, 5, 6, 0]])
    expected = functional.embedding_dropout(words, values(8, 6), 0.5, **at)
    for placement in (R, S1):
        table = divided(values(8, 6), mesh, [placement])
        got = functional.embedding_dropout(divided(words, mesh, [R]), table, 0.5, **at)
        assert torch.equal(got.full_tensor(), expected)


class Feed(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.down = torch.nn.Linear(8, 16), torch.nn.Linear(16, 8)
        self.hidden, self.out = nn.Dropout(0.4), nn.Dropout(0.2)

    def forward(self, x):
        return self.out(self.down(self.hidden(torch.relu(self.up(x)))))


def tensor_parallel(again=None):
    """torch's own plan: columns, then rows. The hidden units are divided, and so is their mask."""
    torch.manual_seed(0)
    plain = keyed(Feed().double(), 5)
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    plan = {"up": ColwiseParallel(use_local_output=False), "down": RowwiseParallel(use_local_output=False)}
    spread = parallelize_module(copy.deepcopy(plain), mesh, plan)
    seen = set()
    spread.hidden.register_forward_hook(lambda _m, _x, y: seen.add(y.placements))
    x = values(6, 8).double().requires_grad_()
    for step in range(2):
        for model in (plain, spread):
            set_step(model, step).zero_grad()
        expected = plain(x)
        y = (spread(x) if again is None else checkpoint(spread, x, **again)).full_tensor()
        torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)
        assert torch.equal(y == 0, expected == 0)
        expected.square().sum().backward()
        y.square().sum().backward()
        for (name, one), (_, other) in zip(plain.named_parameters(), spread.named_parameters(), strict=True):
            torch.testing.assert_close(other.grad.full_tensor(), one.grad, rtol=1e-10, atol=1e-12, msg=name)
    assert seen == {(S1,)}


def tensor_parallel_checkpointed():
    for reentrant in (False, True):
        for preserve in (False, True):
            tensor_parallel(again={"use_reentrant": reentrant, "preserve_rng_state": preserve})


def in_inference_mode():
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    with torch.inference_mode():
        y = functional.dropout(divided(values(9, 14), mesh, [S0]), 0.4, True, key=KEY)
        same(y, functional.dropout(values(9, 14), 0.4, True, key=KEY), mesh, [S0])


CASES = [
    in_inference_mode,  # first: nothing has told DTensor of our operators yet
    dropout_and_noise_shapes,
    uneven_and_empty_parts,
    element_types,
    rates,
    rates_that_are_dtensors,
    not_a_number_is_dropped,
    in_place,
    every_verb,
    every_layer,
    nothing_is_saved,
    pending_sums,
    a_pending_gradient,
    keys,
    parts_that_are_no_slices,
    some_ranks_only,
    rows_of_a_larger_batch,
    attention,
    weights_and_words,
    tensor_parallel,
    tensor_parallel_checkpointed,
]
