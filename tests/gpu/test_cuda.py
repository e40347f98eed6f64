"""Everything that has a kernel on a GPU, where there is one: the CPU's bits."""

import hashlib
import math

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from thinned import Key
from thinned.torch import _cuda, _key, functional, keyed, nn, set_step

pytestmark = [
    pytest.mark.skipif(
        not torch.cuda.is_available(), reason="no CUDA device: these tests run on a machine that has one"
    ),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # the compiler's own
]

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
KEY = Key(2**63 + 11, 2**40 + 3)
BITS = {torch.float32: torch.int32, torch.float64: torch.int64}


def numbers(shape, dtype=torch.float32, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def assert_equal_bits(gpu, cpu):
    """But for the payload of a NaN."""
    gpu = gpu.detach().cpu()
    assert (gpu.dtype, gpu.shape) == (cpu.dtype, cpu.shape)
    assert torch.equal(gpu.isnan(), cpu.isnan())
    a, b = (t.detach().nan_to_num(0.0, math.inf, -math.inf) for t in (gpu, cpu))
    bits = BITS.get(cpu.dtype, torch.int16)
    assert torch.equal(a.contiguous().view(bits), b.contiguous().view(bits))


def same(x, p=0.3, **options):
    """Dropout of the same numbers in the same layout, there and here."""
    there = torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device="cuda").copy_(x)
    options.setdefault("key", KEY)
    ours = functional.dropout(there, p, True, **options)
    assert_equal_bits(ours, functional.dropout(x, p, True, **options))
    return ours


@pytest.fixture
def _no_waiting():
    """An error where the CPU waits for the device."""
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    yield
    torch.cuda.set_sync_debug_mode("default")


def test_the_kernels_are_there():
    assert _cuda.has_triton()


def test_known_answer():
    y = functional.dropout(torch.ones(1000, device="cuda"), 0.1, True, key=Key(42, 7))
    mask = (y != 0).cpu().numpy()
    assert mask.sum() == 918
    digest = "0a115cad0721bf632c29a01cb034ba99fd13916e7913baf343fd90fd33edf0db"
    assert hashlib.sha256(mask.view("uint8").tobytes()).hexdigest() == digest


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("size", [0, 1, 7, 8, 4095, 4096, 4097, 2**20, 2**20 + 1, 10**6 + 3])
def test_sizes(size, dtype):
    same(numbers(size, dtype))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("p", [2.0**-33, 2.0**-32, 1e-6, 0.1, 0.5, 0.999, 0.99999, 1 - 2.0**-32, 1.0])
@pytest.mark.parametrize("mode", ["inverted", "classic"])
def test_probabilities(p, dtype, mode):
    same(numbers(10**5, dtype), p, mode=mode)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_special_values(dtype):
    info = torch.finfo(dtype)
    special = [math.nan, math.inf, -math.inf, -0.0, 0.0, info.max, -info.max, info.smallest_normal / 2]
    special += [-info.smallest_normal * 1.5, info.tiny, 1.0, 1 + info.eps]
    same(torch.tensor(special, dtype=dtype).repeat(1000), 0.1)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_every_number_of_sixteen_bits(dtype):
    same(torch.arange(-(2**15), 2**15, dtype=torch.int16).view(dtype), 0.1)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_layouts(dtype):
    x = numbers((6, 10, 72), dtype)
    for one in (x.transpose(0, 1), x.permute(2, 1, 0), x[:, ::2], x[:, :, 1::3], x[::2, 1:, 3:70], x[:0]):
        same(one)
    same(numbers((2, 3, 4, 5), dtype).contiguous(memory_format=torch.channels_last))
    same(numbers((), dtype))
    wide = numbers((1, 50), dtype).expand(30, 50)
    there = wide[:1].cuda().expand(30, 50)
    ours = functional.dropout(there, 0.3, True, key=KEY)
    assert_equal_bits(ours, functional.dropout(wide, 0.3, True, key=KEY))


def test_shared_decisions():
    for noise in ((1, None, None), (4, 1, 1), (None, None, 1), (1, 1, 1)):
        same(numbers((4, 50, 80)), noise_shape=noise)
    there = functional.dropout2d(numbers((4, 5, 6, 7)).cuda(), 0.3, True, key=KEY)
    assert_equal_bits(there, functional.dropout2d(numbers((4, 5, 6, 7)), 0.3, True, key=KEY))


@pytest.mark.parametrize("start", [5, 2**31 - 3, 2**32 - 5, 2**34 - 7, 2**61 - 1])
def test_shards(start):
    same(numbers(1000), global_shape=(2**63,), start=(start,))
    same(numbers((30, 100)), global_shape=(2**30, 2**32), start=(min(start, 2**29), 2**32 - 107))


def test_keys_of_their_own():
    keys = torch.stack([_key.key_to_tensor(KEY.fold(i)) for i in range(5)])
    x = numbers((5, 1000))
    for where in ("cpu", "cuda"):
        call = torch.vmap(lambda x, key: functional.dropout(x, 0.3, True, key=key))
        y = call(x.cuda(), keys.to(where))
        for i in range(5):
            assert_equal_bits(y[i], functional.dropout(x[i], 0.3, True, key=KEY.fold(i)))


@pytest.mark.usefixtures("_no_waiting")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_key_and_p_in_device_memory(dtype):
    torch.cuda.set_sync_debug_mode("default")
    key, p = _key.key_to_tensor(KEY).cuda(), torch.tensor(0.1, dtype=dtype, device="cuda")
    x = numbers(10**4, dtype)
    there = x.cuda()
    torch.cuda.set_sync_debug_mode("error")
    y = functional.dropout(there, p, True, key=key)
    turned = functional.dropout(there.reshape(100, 100).t(), p, True, key=key)
    torch.cuda.set_sync_debug_mode("default")
    assert_equal_bits(y, functional.dropout(x, p.cpu(), True, key=KEY))
    assert_equal_bits(turned, functional.dropout(x.reshape(100, 100).t(), p.cpu(), True, key=KEY))


@pytest.mark.parametrize("shape", [(30, 1), (1, 40), (30, 40)])
def test_a_p_for_each_row_column_or_element(shape):
    p = torch.rand(shape, generator=torch.Generator().manual_seed(1))
    x = numbers((30, 40))
    here = functional.dropout(x, p, True, key=KEY)
    for where in ("cpu", "cuda"):
        there = x.cuda()
        assert_equal_bits(functional.dropout(there, p.to(where), True, key=KEY), here)
        assert_equal_bits(functional.dropout(there, p.to(where), True, True, key=KEY), here)


def test_streams_and_a_second_device():
    x = numbers(10**5)
    here = functional.dropout(x, 0.3, True, key=KEY)
    for device in range(torch.cuda.device_count()):
        there = x.to(f"cuda:{device}")  # also where another device is the current one
        assert_equal_bits(functional.dropout(there, 0.3, True, key=KEY), here)
        stream = torch.cuda.Stream(device)
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            ours = functional.dropout(there, 0.3, True, key=KEY)
        stream.synchronize()
        assert_equal_bits(ours, here)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_autocast(dtype):
    linear = torch.nn.Linear(64, 64).cuda()
    x = numbers((50, 64)).cuda()
    with torch.autocast("cuda", dtype):
        found = linear(x)
        y = functional.dropout(found, 0.3, True, key=KEY)
    assert y.dtype == dtype
    assert_equal_bits(y, functional.dropout(found.cpu(), 0.3, True, key=KEY))
    y.float().sum().backward()
    assert linear.weight.grad.isfinite().all()


def test_a_p_that_nobody_can_check_gives_nan():
    for p in (math.nan, -0.1, 1.5):
        there = torch.tensor(p, device="cuda")
        assert functional.dropout(torch.ones(100, device="cuda"), there, True, key=KEY).isnan().all()


@pytest.mark.usefixtures("_no_waiting")
def test_a_drawn_key_makes_nobody_wait():
    x = torch.ones(1000, device="cuda", requires_grad=True)
    functional.dropout(x, 0.5, True).backward(x.detach())


def test_one_seed_has_one_mask_on_all_devices():
    masks = []
    for device in ("cpu", "cuda"):
        torch.manual_seed(3)
        masks.append(functional.dropout(torch.ones(1000, device=device), 0.5, True).cpu())
    assert torch.equal(*masks)


def test_a_generator_on_the_device():
    generator = torch.Generator("cuda").manual_seed(3)
    x = torch.ones(1000, device="cuda")
    one, two = (functional.dropout(x, 0.5, True, generator=generator) for _ in range(2))
    assert not torch.equal(one, two)
    generator.manual_seed(3)
    assert torch.equal(one, functional.dropout(x, 0.5, True, generator=generator))
    generator.manual_seed(3)
    assert_equal_bits(one, functional.dropout(torch.ones(1000), 0.5, True, generator=generator))


def test_fold():
    keys = torch.stack([_key.key_to_tensor(key) for key in (Key(1), Key(1, 2), KEY)])
    for data in (0, 5, 123456789012, 2**60 - 1):
        expected = _key.fold(keys, torch.tensor(data))
        assert torch.equal(_key.fold(keys.cuda(), torch.tensor(data, device="cuda")).cpu(), expected)
        assert torch.equal(_key.fold(keys.cuda(), data).cpu(), expected)


# Autograd, in place, fused.


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_backward_has_the_forwards_mask(dtype):
    for x in (torch.ones(300, 40, dtype=dtype, device="cuda"), torch.ones(40, 300, device="cuda").t()):
        for call in (lambda x: functional.dropout(x, 0.5, True), lambda x: checkpointed(x)):
            leaf = x.clone().requires_grad_()
            y = call(leaf)
            y.backward(torch.ones_like(y))
            assert torch.equal(y.detach(), leaf.grad)


def checkpointed(x):
    return checkpoint(lambda x: functional.dropout(x * 1.0, 0.5, True) * 1.0, x, use_reentrant=False)


def test_what_is_dropped_never_leaks():
    x = torch.full((1000,), math.nan, device="cuda", requires_grad=True)
    y = functional.dropout(x, 0.5, True, key=KEY)
    y.backward(torch.full_like(y, math.inf))
    assert torch.equal(y == 0, x.grad == 0)
    assert 400 < int((y == 0).sum()) < 600  # z = 6.3


def test_in_place():
    x = numbers((1000, 100))
    y = x.cuda()
    held = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    assert functional.dropout(y, 0.3, True, inplace=True, key=KEY) is y
    assert torch.cuda.max_memory_allocated() - held < y.nbytes
    assert_equal_bits(y, functional.dropout(x, 0.3, True, key=KEY))
    leaf = x.cuda().requires_grad_()
    y = leaf * 1
    functional.dropout(y, 0.3, True, True, key=KEY).sum().backward()
    assert torch.equal(y == 0, leaf.grad == 0)


def test_nothing_of_the_inputs_size_is_saved():
    saved = []
    x = numbers((100, 64)).cuda().requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        functional.dropout(x, 0.3, True)
        functional.dropout_add(x, x, 0.3, True)
    assert sum(t.nbytes for t in saved) <= 100


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_dropout_add(dtype):
    results = []
    for device in ("cuda", "cpu"):
        x, residual = (numbers((100, 77), dtype, i).to(device).requires_grad_() for i in range(2))
        y = functional.dropout_add(x, residual, 0.3, True, key=KEY)
        results.append((y, *torch.autograd.grad(y, (x, residual), torch.full_like(y, 3.0))))
    for there, here in zip(*results, strict=True):
        assert_equal_bits(there, here)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", [nn.DropoutAddLayerNorm, nn.DropoutAddRMSNorm])
@pytest.mark.parametrize("width", [8, 100, 768, 4096, 16384])
def test_norms(kind, dtype, width):
    """Sums and masks to the bit; norms to 8 roundings of the dtype, relative to the largest number."""
    results = []
    for device in ("cuda", "cpu"):
        layer = kind(width, 0.3, dtype=dtype, device=device)
        layer.give_key(KEY, None)
        x, residual, grad, grad_total = (numbers((20, width), dtype, i).to(device) for i in range(4))
        normed, total = layer(x.requires_grad_(), residual.requires_grad_())
        leaves = (x, residual, *layer.parameters())
        results.append((total, normed, *torch.autograd.grad((normed, total), leaves, (grad, grad_total))))
    (total, *ours), (plain, *theirs) = results
    assert_equal_bits(total, plain)
    for a, b in zip(ours, theirs, strict=True):
        error = (a.cpu().double() - b.double()).abs().max()
        assert error <= 8 * torch.finfo(dtype).eps * max(b.abs().max().item(), 1.0)
    of_x, of_residual = ours[1:3]
    assert_equal_bits(of_x, functional.dropout(of_residual.cpu(), 0.3, True, key=KEY))


# Compiled, and replayed.


@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
def test_compiled_equals_eager(mode):
    torch._dynamo.reset()
    model = torch.nn.Sequential(nn.Dropout(0.3), nn.Dropout(0.5))
    keyed(model, 5)

    def f(x, residual):
        return functional.dropout_add(model(x), residual, 0.2, True, key=KEY)

    compiled = torch.compile(f, fullgraph=True, mode=mode)
    for step in range(3):
        set_step(model, step)
        results = []
        for call in (f, compiled):
            x, residual = (numbers((64, 64), seed=i).cuda().requires_grad_() for i in range(2))
            y = call(x, residual)
            results.append((y.clone(), *torch.autograd.grad(y, (x, residual), torch.ones_like(y))))
        for eager, other in zip(*results, strict=True):
            assert torch.equal(eager, other)


def captured(run):
    """A CUDA graph of the call, and what it returned while it was captured."""
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(2):
            run()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = run()
    return graph, out


def test_a_replayed_graph_reads_fresh_keys():
    x, residual = (numbers((100, 64), seed=i) for i in range(2))
    x_there, residual_there = x.cuda().requires_grad_(), residual.cuda()
    key = torch.zeros(2, dtype=torch.int64, device="cuda")
    p = torch.tensor(0.3, dtype=torch.float64, device="cuda")

    def run():
        y = functional.dropout(x_there, p, True, key=key)
        z = functional.dropout_add(y, residual_there, p, True, key=_key.fold(key, 1))
        return y, z, torch.autograd.grad(z, x_there, torch.ones_like(z))[0]

    graph, (y, z, grad) = captured(run)
    for number in range(3):
        fresh, rate = Key(number, 7), 0.2 + 0.1 * number
        key.copy_(_key.key_to_tensor(fresh))
        p.fill_(rate)
        graph.replay()
        here = x.clone().requires_grad_()
        first = functional.dropout(here, rate, True, key=fresh)
        second = functional.dropout_add(first, residual, rate, True, key=fresh.fold(1))
        assert_equal_bits(y, first)
        assert_equal_bits(z, second)
        assert_equal_bits(grad, torch.autograd.grad(second, here, torch.ones_like(second))[0])


def test_a_replayed_graph_draws_fresh_keys():
    x = torch.ones(1000, device="cuda", requires_grad=True)
    generator = torch.cuda.default_generators[torch.cuda.current_device()]

    def run():
        y = functional.dropout(x, 0.5, True, generator=generator)
        return y, torch.autograd.grad(y, x, torch.ones_like(y))[0]

    graph, (y, grad) = captured(run)
    masks = []
    for _ in range(3):
        graph.replay()
        assert torch.equal(y, grad)
        masks.append(y.clone())
    assert not any(torch.equal(masks[i], masks[j]) for i, j in ((0, 1), (0, 2), (1, 2)))


def test_more_than_two_to_the_31_elements():
    elements = 2**31 + 2**20 + 3
    free, _ = torch.cuda.mem_get_info()
    if free < 3 * 2 * elements:
        pytest.skip(f"needs {3 * 2 * elements / 2**30:.0f} GiB of device memory, {free / 2**30:.0f} are free")
    y = functional.dropout(torch.ones(elements, dtype=torch.bfloat16, device="cuda"), 0.3, True, key=KEY)
    for start in (0, 2**31 - 5000, 2**31 + 2**20 - 9997):
        part = torch.ones(10000, dtype=torch.bfloat16)
        here = functional.dropout(part, 0.3, True, key=KEY, global_shape=(elements,), start=(start,))
        assert_equal_bits(y[start : start + 10000], here)
