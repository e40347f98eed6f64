"""Ways to use a model that know nothing of thin sites; each gives outputs, gradients or weights."""

import contextlib
import copy
import threading

import pytest
import torch
from thin_families import close, step
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

from thinned.torch import keyed, masked, schedules, set_step
from thinned.torch._observers import masks_are_wanted
from thinned.torch._site import Site


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


def set_rates(model, p):
    """Each site's own p, as training scripts change it."""
    for module in model.modules():
        for rate in ("p", "dropout", "input_p", "hidden_p", "output_p", "head_p", "weight_p"):
            if (
                isinstance(module, Site)
                and isinstance(now := vars(module).get(rate), (float, Tensor))
                and now
            ):
                setattr(module, rate, p)


def passes_without_gradients_between(model, x):
    with torch.no_grad():
        first = model(x)
    y = model(x)
    with torch.no_grad():
        last = model(2 * x)
    loss(y).backward()
    return {**gradients(model), "first": first, "last": last}


def rates_that_change_between_the_passes(model, x):
    found = {}
    for p in (0.25, torch.tensor(0.5), 0.75):
        y = model(x)
        set_rates(model, p)
        loss(y).backward()
        found[f"output {float(p)}"] = y.detach()
    return {**found, **gradients(model)}


def schedules_that_move_on_between_the_passes(model, x):
    set_rates(model, schedules.Late(0.5, 2))
    found = {}
    for number in range(4):
        set_step(model, number)
        y = model(x)
        set_step(model, number + 1)
        loss(y).backward()
        found[f"output {number}"] = y.detach()
    return {**found, **gradients(model)}


def weights_exchanged_between_the_passes(model, x):
    y = model(x)
    before = dict(model.named_parameters())
    for module in model.modules():
        for name, weight in module.named_parameters(recurse=False):
            setattr(module, name, torch.nn.Parameter(torch.zeros_like(weight)))
    loss(y).backward()
    return {name: weight.grad for name, weight in before.items()}


def each_samples_gradients(model, x):
    weights = {name: weight.detach() for name, weight in model.named_parameters()}

    def of_one(weights, row):
        return loss(torch.func.functional_call(model, weights, (row[None],)))

    with sdpa_kernel(SDPBackend.MATH):
        each = torch.func.vmap(torch.func.grad(of_one), in_dims=(None, 0), randomness="same")
        return each(weights, x)


def two_models_in_threads(model, x):
    other = keyed(copy.deepcopy(model), 77)
    found = [{} for _ in range(4)]
    way = masked if masks_are_wanted() else contextlib.nullcontext

    def run(number):
        one = (model, other)[number % 2]
        with way():
            for _ in range(3):
                grads = torch.autograd.grad(loss(one(x)), list(one.parameters()))
        found[number].update({f"{number % 2} {at}": grad for at, grad in enumerate(grads)})

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert close(found[0], found[2])
    assert close(found[1], found[3])
    return found[0] | found[1]


def exported(model, x):
    return {"output": torch.export.export(model, (x,)).module()(x).detach()}


def exported_to_evaluate(model, x):
    return exported(model.eval(), x)


WAYS = [
    *(frozen, adapted, accumulated, derived_twice, batched_gradients, hooked_later, backward_hooks),
    *(switched, inference, strided, expanded, empty, one_sample, saved_elsewhere, deterministic, scaled),
    *(pruned, normed, normed_as_before, normed_by_spectrum, exchanged_weights, called_by_function, traced),
    *(in_threads, on_another_default_device, replicated, two_models_in_threads, each_samples_gradients),
    *(passes_without_gradients_between, rates_that_change_between_the_passes),
    *(schedules_that_move_on_between_the_passes, weights_exchanged_between_the_passes),
    *(pytest.param(way, marks=pytest.mark.full) for way in (exported, exported_to_evaluate)),
]
