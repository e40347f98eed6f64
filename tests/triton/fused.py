"""What Inductor writes for a GPU where `inductor.fused` compiles, with none: read, and interpreted.

Tensors are fake ones of a CUDA device, and what torch asks of the device is answered here. The code is
generated and not compiled; its kernel is Triton's, whose interpreter then runs it on tensors of the CPU.
"""

import contextlib
import importlib.util
import re
import types
from unittest import mock

import numpy as np
import pytest
import torch
import triton.language as tl
from arrays import array, numbers, rate
from equal_bits import assert_equal_bits
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from triton.runtime.interpreter import TensorHandle

from thinned import Key
from thinned.bench._gpu_model import Absent
from thinned.torch import _cuda, _key, functional, inductor

pytestmark = [pytest.mark.full, pytest.mark.filterwarnings("ignore")]  # 10 s and more: torch's compiler

BITS = _key.key_to_tensor(Key(2**63 + 11, 2**40 + 3))
# Of an H100, as far as the compiler asks.
PROPERTIES = types.SimpleNamespace(
    name="H100", major=9, minor=0, multi_processor_count=132, warp_size=32, total_memory=80 * 2**30,
    max_threads_per_multi_processor=2048, max_threads_per_block=1024, regs_per_multiprocessor=65536,
    shared_memory_per_block=48 * 2**10, shared_memory_per_block_optin=227 * 2**10, L2_cache_size=50 * 2**20,
    shared_memory_per_multiprocessor=228 * 2**10, gcnArchName="",
)  # fmt: skip
ANSWERS = {
    "is_available": True, "is_initialized": True, "current_device": 0, "device_count": 1, "_lazy_init": None,
    "get_device_capability": (9, 0), "get_device_properties": PROPERTIES,
    "_get_device_properties": PROPERTIES, "synchronize": None, "_exchange_device": 0,
    "_maybe_exchange_device": 0, "set_rng_state": None,
    "get_rng_state": torch.zeros(16, dtype=torch.uint8),
}  # fmt: skip


@contextlib.contextmanager
def a_gpu_that_is_not_there():
    """Yields the codes that Inductor writes meanwhile, each instead of being compiled."""
    from torch._inductor import config
    from torch._inductor.fx_passes import joint_graph, post_grad
    from torch._inductor.graph import GraphLowering
    from triton.runtime import driver

    codes = []

    def written(graph):
        wrapper, _ = graph.codegen()
        codes.append(wrapper.value)
        return types.SimpleNamespace(call=lambda *_: None)

    with contextlib.ExitStack() as stack:
        for name, answer in ANSWERS.items():
            stub = lambda *_, answer=answer, **__: answer  # noqa: E731
            stack.enter_context(mock.patch.object(torch.cuda, name, stub, create=True))
        stack.enter_context(mock.patch.object(torch._C, "_cuda_getDevice", create=True, return_value=0))
        stack.enter_context(mock.patch.object(GraphLowering, "compile_to_module", written))
        for passes in (joint_graph, post_grad):  # patterns are made of tensors on the device
            stack.enter_context(mock.patch.object(passes, "lazy_init", return_value=None))
        stack.enter_context(config.patch(joint_graph_constant_folding=False, fx_graph_cache=False))
        stack.enter_context(config.patch(emulate_precision_casts=True))
        driver.set_active(Absent(90))
        stack.callback(driver.set_active, None)
        yield codes


def branch(x, residual, key, p):
    return functional.dropout_add(torch.relu(x) * 2, residual, p, True, key=key) + 1


def code_for(x, residual, where):
    """What Inductor writes for such tensors on a GPU, with key and p on a device."""
    with a_gpu_that_is_not_there() as codes:
        with FakeTensorMode():
            there = [torch.empty(t.shape, dtype=t.dtype, device="cuda") for t in (x, residual)]
            small = [torch.empty(2, dtype=torch.int64, device=where)]
            small.append(torch.empty((), dtype=torch.float64, device=where))
            assert _cuda.fuses(*there)
            graph = make_fx(branch)(*there, *small)
        assert "thinned.dropout_add" in graph.code
        with contextlib.suppress(AttributeError, TypeError):  # of a module that was not made
            inductor.fused(graph, [*there, *small])
    (code,) = codes
    return re.sub(r"^ *#.*$", "", code, flags=re.MULTILINE)


def kernels(code):
    """Triton's, by name: their sources without Inductor's heuristics."""
    found = re.findall(r"async_compile\.triton\('(\w+)', '''\n(.*?)'''", code, re.DOTALL)
    return {name: source[source.index("@triton.jit") :] for name, source in found}


def nearest(x):
    """The interpreter has no library of the device's."""
    return tl.tensor(TensorHandle(np.rint(x.handle.data), x.handle.dtype), x.type)


def interpreted(source, name, folder):
    """The function of a source, as the interpreter runs it."""
    from torch._inductor.runtime import triton_helpers

    file = folder / f"{name}.py"
    file.write_text(f"import triton\nimport triton.language as tl\n{source}")
    spec = importlib.util.spec_from_file_location(name, file)
    module = importlib.util.module_from_spec(spec)
    module.triton_helpers = triton_helpers
    module.libdevice = types.SimpleNamespace(nearbyint=nearest)
    spec.loader.exec_module(module)
    return getattr(module, name)


def run(code, inputs, folder):
    """The result of the wrapper's launches, in their order."""
    here = dict(inputs)
    functions = {name: interpreted(source, name, folder) for name, source in kernels(code).items()}
    for line in code[code.index("    def call(") :].splitlines():
        made = re.match(r" *(\w+) = empty_strided_cuda\((\(.*?\)), (\(.*?\)), (.*)\)", line)
        launch = re.match(r" *(\w+)\.run\((.*), (\d+), stream", line)
        if made:
            shape, stride, dtype = (eval(text) for text in made.groups()[1:])
            here[made.group(1)] = torch.empty_strided(shape, stride, dtype=dtype)
        elif launch:
            size = int(launch.group(3))
            block = min(size, 512)
            arguments = [here[name] for name in launch.group(2).split(", ")]
            functions[launch.group(1)][(size // block,)](*arguments, size, XBLOCK=block)
    return here[re.search(r"return \((\w+), \)", code).group(1)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_neighbours_and_mask_are_one_kernel_with_the_bits_of_eager_code(dtype, tmp_path):
    x, residual = numbers((64, 64), dtype), numbers((64, 64), dtype, 1)
    code = code_for(x, residual, "cuda")
    assert "ops.thinned" not in code
    assert ".copy_(" not in code  # nobody waits
    assert code.count(".run(") == len(kernels(code)) == 2
    (name,) = (name for name in kernels(code) if "relu" in name)
    source = kernels(code)[name]
    # Two calls of the generator, of ten rounds: the constants of CONTRACT.md, section 2.
    assert len(re.findall(rf"tl.full\(\[1\], {0xD2511F53 - 2**32}, tl.int64\)", source)) == 1
    assert str(0x9E3779B9) in source
    # What is of p alone is computed once, and not for each element.
    assert "/" not in source
    p = rate(0.3)
    inputs = dict(zip(("arg0_1", "arg1_1", "arg2_1", "arg3_1"), (x, residual, BITS, p), strict=True))
    assert_equal_bits(array(run(code, inputs, tmp_path)), array(branch(x, residual, BITS, p)))


def test_a_key_and_a_p_on_the_cpu_are_copied():
    """docs/torch/compile.md says so: three copies, for each of which the CPU waits."""
    code = code_for(numbers((64, 64)), numbers((64, 64), seed=1), "cpu")
    assert code.count(".copy_(") == 3
