"""Ways to use a model that know nothing of thin sites: each family computes what its masks compute.

A new way enters by a line in `WAYS`, a new family by one in `thin_families`.
"""

import contextlib
import io
import threading

import pytest
import torch
from thin_families import FAMILIES, close, made, of_each, step
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

from thinned.torch import masked, thin, unthin
from thinned.torch._observers import masks_are_wanted

pytestmark = [
    pytest.mark.filterwarnings("ignore:.* has drawn (the|one) mask"),
    pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Anomaly Detection"),
    pytest.mark.filterwarnings("ignore:For backward hooks to be called"),
    pytest.mark.filterwarnings("ignore:Full backward hook is firing"),
    pytest.mark.filterwarnings("ignore:There is a performance drop"),
]


def loss(y):
    return (y * torch.linspace(-1, 1, y.numel(), dtype=y.dtype).reshape(y.shape)).sum()


def maps(model):
    """Modules with a weight matrix of their own."""
    kinds = (torch.nn.Linear, torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)
    return [module for module in model.modules() if isinstance(module, kinds)]


def gradients(model):
    return {name: one.grad for name, one in model.named_parameters() if one.grad is not None}


def frozen(model, x):
    for weight in list(model.parameters())[::2]:
        weight.requires_grad_(False)
    loss(model(x)).backward()
    return gradients(model)


def adapted(model, x):
    """All weights frozen: the input's gradient alone."""
    model.requires_grad_(False)
    x = x.clone().requires_grad_()
    loss(model(x)).backward()
    return {"input": x.grad}


def accumulated(model, x):
    for _ in range(3):
        y = loss(model(x))
        y.backward(retain_graph=True)
        (2 * y).backward()
    return gradients(model)


def derived_twice(model, x):
    x = x.clone().requires_grad_()
    with sdpa_kernel(SDPBackend.MATH):  # the only one that has a second derivative
        y = model(x)
    (grad,) = torch.autograd.grad(loss(y**2), x, create_graph=True)
    grad.square().sum().backward()
    return {**gradients(model), "input": x.grad}


def batched_gradients(model, x):
    x = x.clone().requires_grad_()
    y = model(x)
    inputs = [x, *model.parameters()]
    many = torch.stack([torch.ones_like(y), torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view(y.shape)])
    found = torch.autograd.grad(y, inputs, many, is_grads_batched=True)
    return {str(number): one for number, one in enumerate(found)}


def hooked_later(model, x):
    seen = []
    for module in model.modules():
        module.register_forward_pre_hook(lambda *args: None)
        module.register_forward_hook(lambda *args: None)
        module.register_state_dict_pre_hook(lambda *args: None)
    for weight in model.parameters():
        weight.register_hook(lambda grad: seen.append(grad) or grad * 2)
        weight.register_post_accumulate_grad_hook(lambda weight: None)
    model.load_state_dict(model.state_dict())
    found = step(model, x)
    assert seen
    return found


def backward_hooks(model, x):
    for module in model.modules():
        module.register_full_backward_pre_hook(lambda module, grads: None)
        module.register_full_backward_hook(lambda module, before, after: None)
    return step(model, x)


def switched(model, x):
    model.eval()
    model(x)
    with torch.inference_mode():
        model.train()(x)
    with torch.no_grad():
        model(x)
    return step(model.train(), x)


def inference(model, x):
    with torch.inference_mode():
        return {"output": model(x).clone()}


def strided(model, x):
    return step(model, x.transpose(0, -1).contiguous().transpose(0, -1))


def expanded(model, x):
    y = model(x[:1].expand_as(x))
    loss(y).backward()
    return {**gradients(model), "output": y.detach()}


def empty(model, x):
    return step(model, x[:0])


def one_sample(model, x):
    return step(model, x[:1])


def saved_elsewhere(model, x):
    with torch.autograd.graph.save_on_cpu(), torch.autograd.detect_anomaly():
        return step(model, x)


def deterministic(model, x):
    torch.use_deterministic_algorithms(True)
    try:
        return step(model, x)
    finally:
        torch.use_deterministic_algorithms(False)


def scaled(model, x):
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        scaler.scale(loss(model(x)) * 1e-3).backward()
        scaler.step(optimizer)
        scaler.update()
    return {name: one.detach() for name, one in model.named_parameters()}


def pruned(model, x):
    for module in maps(model):
        prune.l1_unstructured(module, "weight", 0.3)
    return step(model, x)


def normed(model, x):
    for module in maps(model):
        parametrizations.weight_norm(module)
    return step(model, x)


def normed_as_before(model, x):
    for module in maps(model):
        weight_norm(module)
    return step(model, x)


def normed_by_spectrum(model, x):
    for module in maps(model):
        spectral_norm(module)
    return step(model, x)


def exchanged_weights(model, x):
    """`load_state_dict` that puts other parameters in their place, and conversions that swap tensors."""
    step(model, x)
    model.load_state_dict({name: one.clone() for name, one in model.state_dict().items()}, assign=True)
    step(model, x)
    before = torch.__future__.get_swap_module_params_on_conversion()
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        model.float().double()
    finally:
        torch.__future__.set_swap_module_params_on_conversion(before)
    return step(model, x)


def called_by_function(model, x):
    given = {name: one.detach().clone().requires_grad_() for name, one in model.named_parameters()}
    y = torch.func.functional_call(model, given, (x,))
    return dict(zip(given, torch.autograd.grad(loss(y), list(given.values())), strict=True))


def traced(model, x):
    graph = torch.fx.symbolic_trace(model)
    return step(graph, x)


def in_threads(model, x):
    found = [{}, {}, {}]
    way = masked if masks_are_wanted() else contextlib.nullcontext  # it counts for one thread

    def run(number):
        with way():
            y = model(x)
        grads = torch.autograd.grad(loss(y), list(model.parameters()))
        found[number].update({str(k): one for k, one in enumerate(grads)})

    threads = [threading.Thread(target=run, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert close(found[0], found[1])
    assert close(found[0], found[2])
    return found[0]


def on_another_default_device(model, x):
    with torch.device("meta"):
        y = model(x)
    loss(y).backward()
    return gradients(model)


def replicated(model, x):
    """As `torch.nn.DataParallel` copies modules: without parameters of their own."""
    copies = {module: module._replicate_for_data_parallel() for module in model.modules()}
    for module, one in copies.items():
        for name, child in module.named_children():
            setattr(one, name, copies[child])
        for name, weight in module._parameters.items():
            setattr(one, name, None if weight is None else weight * 1)
    y = copies[model](x)
    loss(y).backward()
    return {**gradients(model), "output": y.detach()}


WAYS = [
    *(frozen, adapted, accumulated, derived_twice, batched_gradients, hooked_later, backward_hooks),
    *(switched, inference, strided, expanded, empty, one_sample, saved_elsewhere, deterministic, scaled),
    *(pruned, normed, normed_as_before, normed_by_spectrum, exchanged_weights, called_by_function, traced),
    *(in_threads, on_another_default_device, replicated),
]


def run(way, model, x, masks):
    torch.manual_seed(11)
    if masks:
        with masked():
            return way(model, x)
    return way(model, x)


# What torch, or the family's own code, takes no more with masks.
LIMITS = {
    **dict.fromkeys([(name, empty) for name in ("LSTM", "GRU")], "length to be larger than 0"),
    ("LSTM", traced): "'tuple' object has no attribute 'sum'",
    ("heads of a branch", traced): "slice indices must be integers",
    ("heads of three maps", on_another_default_device): "device",
}


@pytest.mark.covering(strength=1)
@pytest.mark.parametrize("way", WAYS)
@of_each()
def test_a_way_of_use_computes_what_masks_compute(name, way):
    found = []
    for masks in (True, False):
        model, x = made(name, 0.5)
        if limit := LIMITS.get((name, way)):
            with pytest.raises((RuntimeError, AttributeError, TypeError), match=limit):
                run(way, model, x, masks)
        else:
            found.append({key: one for key, one in run(way, model, x, masks).items() if one is not None})
    if found:
        assert found[0]
        assert found[0].keys() == found[1].keys()
        assert close(*found)


@of_each()
def test_a_model_without_numbers_is_thin_or_says_when_to_try_again(name):
    model = FAMILIES[name].make(0.5).to("meta")
    report = thin(model)
    assert len(report.thinned) + len(report.left) >= FAMILIES[name].sites
    assert all("meta device" in why or "p to 0" in why for why in report.left.values()), report
    x = torch.randn(FAMILIES[name].shape, device="meta")
    assert model(x).is_meta
    assert unthin(model)(x).is_meta


def test_a_class_that_was_made_of_a_thin_one_is_not_taken_back_silently():
    for at, change in ((0, parametrizations.weight_norm), (2, _another_class)):
        model = torch.nn.Sequential(
            torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Dropout(0.5), torch.nn.Linear(8, 2)
        )
        thin(model)
        change(model[at])
        with pytest.raises(RuntimeError, match=f"module '{at}' is a .*Thin.* since thin.model."):
            unthin(model)
        assert all("Thin" in type(model[k]).__name__ for k in (0, 2, 3))
        if not at:
            torch.nn.utils.parametrize.remove_parametrizations(model[0], "weight")
            assert type(unthin(model)[0]) is torch.nn.Linear


def _another_class(module):
    """As `fully_shard` does."""
    module.__class__ = type(f"FSDP{type(module).__name__}", (type(module),), {})


def test_weights_whose_gradients_memory_is_kept_can_be_swapped_and_saved():
    model = torch.nn.Sequential(
        torch.nn.Linear(256, 256), torch.nn.ReLU(), torch.nn.Dropout(0.5), torch.nn.Linear(256, 2)
    )
    thin(model)
    model(torch.ones(4, 256)).sum().backward()
    model.zero_grad()
    torch.save(model[0].weight, file := io.BytesIO())
    assert file.tell() < 1.1 * model[0].weight.nbytes
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=True), model[0].weight)
    torch.utils.swap_tensors(model[0].weight, torch.nn.Parameter(torch.zeros(256, 256)))
    assert not model[0].weight.any()
