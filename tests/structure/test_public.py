"""What a user sees: public names, what importing loads, and examples that run."""

import doctest
import importlib
import importlib.util
import inspect
import os
import pkgutil
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import thinned
from thinned.cli import main

ROOT = Path(__file__).parents[2]

PUBLIC = {
    "thinned": ["Key", "dropout", "get_num_threads", "keep_mask", "scale", "set_num_threads", "threshold"],
    "thinned.audit": [
        "DEFAULT",
        "Edit",
        "Finding",
        "Fix",
        "Position",
        "RULES",
        "check",
        "check_file",
        "check_text",
    ],
    "thinned.equinox": ["Dropout", "nn"],
    "thinned.equinox.nn": ["Dropout"],
    "thinned.conformance": ["BACKENDS", "Cell", "EXPECTED", "as_dict", "as_markdown", "matrix"],
    "thinned.exact": [
        "Average",
        "MAX_UNITS",
        "average",
        "average_linear",
        "average_sites",
        "expected_squared_error",
        "linear_variance",
        "masks",
        "ridge_penalty",
        "ridge_solution",
    ],
    "thinned.flax": ["linen", "nnx"],
    "thinned.flax.linen": ["DropConnect", "DropPath", "Dropout", "audit", "dot_product_attention"],
    "thinned.flax.nnx": ["DropConnect", "DropPath", "Dropout", "dot_product_attention"],
    "thinned.jax": ["dropout", "fold", "keep_mask"],
    "thinned.keras": [
        "AlphaDropout",
        "DropConnect",
        "Dropout",
        "GRU",
        "GRUCell",
        "GaussianDropout",
        "LSTM",
        "LSTMCell",
        "SimpleRNN",
        "SimpleRNNCell",
        "SpatialDropout1D",
        "SpatialDropout2D",
        "SpatialDropout3D",
        "audit",
        "dropout",
        "keep_mask",
    ],
    "thinned.mc": [
        "Comparison",
        "Prediction",
        "SilentError",
        "active",
        "compare",
        "measures",
        "predict",
        "sites",
    ],
    "thinned.mc.jax": ["predict", "random_key"],
    "thinned.mc.keras": ["predict"],
    "thinned.mc.ray": ["check_spread", "numbered", "predict", "read"],
    "thinned.mc.torch": ["active", "predict", "sites"],
    "thinned.tensorflow": ["compat", "dropout", "keep_mask", "nn"],
    "thinned.tensorflow.compat": ["v1"],
    "thinned.tensorflow.compat.v1": ["layers", "nn"],
    "thinned.tensorflow.compat.v1.layers": ["Dropout", "dropout"],
    "thinned.tensorflow.compat.v1.nn": ["dropout", "rnn_cell"],
    "thinned.tensorflow.compat.v1.nn.rnn_cell": ["DropoutWrapper"],
    "thinned.tensorflow.nn": [
        "RNNCellDropoutWrapper",
        "drop_connect",
        "drop_connect_dense",
        "dropout",
        "stateless_dropout",
    ],
    "thinned.testing": ["assert_dropout_healthy"],
    "thinned.torch": [
        "audit",
        "convert",
        "count_steps",
        "functional",
        "keyed",
        "keys",
        "masked",
        "nn",
        "quantization",
        "schedules",
        "set_rows",
        "set_step",
        "strip",
        "thin",
        "to_classic",
        "to_inverted",
        "unconvert",
        "unthin",
    ],
    "thinned.torch.functional": [
        "alpha_dropout",
        "drop_block1d",
        "drop_block2d",
        "drop_block3d",
        "drop_connect_linear",
        "drop_path",
        "dropout",
        "dropout1d",
        "dropout2d",
        "dropout3d",
        "dropout_add",
        "dropout_add_layer_norm",
        "dropout_add_rms_norm",
        "embedding_dropout",
        "feature_alpha_dropout",
        "gaussian_dropout",
        "keep_mask",
        "locked_dropout",
        "scaled_dot_product_attention",
        "stochastic_depth",
        "zoneout",
    ],
    "thinned.torch.nn": [
        "AlphaDropout",
        "DropBlock1d",
        "DropBlock2d",
        "DropBlock3d",
        "DropConnect",
        "DropConnectLinear",
        "DropPath",
        "Dropout",
        "Dropout1d",
        "Dropout2d",
        "Dropout3d",
        "DropoutAdd",
        "DropoutAddLayerNorm",
        "DropoutAddRMSNorm",
        "DropoutWrapper",
        "EmbeddingDropout",
        "FeatureAlphaDropout",
        "GRU",
        "GaussianDropout",
        "LSTM",
        "LockedDropout",
        "ScaledDotProductAttention",
        "StochasticDepth",
        "ZoneoutCell",
        "drop_connect",
        "remove_drop_connect",
    ],
    "thinned.torch.quantization": ["dynamic_mapping", "static_mapping"],
    "thinned.torch.schedules": ["Early", "Late", "Linear", "Schedule"],
}


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names(name):
    module = importlib.import_module(name)
    assert sorted(module.__all__) == PUBLIC[name]
    for public in module.__all__:
        item = getattr(module, public)
        assert inspect.getdoc(item), f"{name}.{public} has no docstring"
        if callable(item) and item.__module__.startswith("thinned."):
            assert "Example" in item.__doc__ or not inspect.signature(item).parameters, public


def loaded_by(statement, after="pass", **environment):
    """The packages that a statement loads, beside the standard library and what `after` loaded before it."""
    code = (
        "import sys; packages = lambda: {name.split('.')[0] for name in sys.modules}; "
        f"{after}; before = packages(); {statement}; print(*sorted(packages() - before))"
    )
    command = [sys.executable, "-W", "error", "-c", code]
    result = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, **environment}
    )
    found = set(result.stdout.split()) - set(sys.stdlib_module_names)
    return {name for name in found if not name.startswith("_") and "scikit_build" not in name}


def test_import_thinned_loads_numpy_alone():
    # What the interpreter starts with in this environment is not ours.
    assert loaded_by("import thinned") == {"numpy", "thinned"}


@pytest.mark.parametrize(
    ("module", "framework", "environment"),
    [
        ("thinned.torch", "torch", {}),
        ("thinned.jax", "jax", {}),
        ("thinned.tensorflow", "tensorflow", {}),
        ("thinned.equinox", "equinox", {}),
        ("thinned.flax", "flax.linen, flax.nnx", {}),
        # In the quick tier tests/keras asks the same of each backend's process, of frameworks alone.
        *(
            pytest.param("thinned.keras", "keras", {"KERAS_BACKEND": name}, marks=pytest.mark.full)
            for name in ("torch", "jax", "tensorflow")
        ),
    ],
    ids=str,
)
def test_importing_loads_no_other_framework_and_no_tool(module, framework, environment):
    loaded = loaded_by(f"import {module}", f"import {framework}", **environment)
    assert loaded - {"numpy"} == {"thinned"}


def test_monte_carlo_prediction_loads_the_framework_that_it_is_for():
    assert loaded_by("import thinned.mc") == {"numpy", "thinned"}
    assert loaded_by("import thinned.mc.torch", "import torch") - {"numpy"} == {"thinned"}
    assert loaded_by("import thinned.mc.jax", "import jax") - {"numpy"} == {"thinned"}
    assert loaded_by("import thinned.mc.ray") == {"numpy", "thinned"}
    assert "ray" not in loaded_by("import thinned.cli.mc, thinned.mc.torch")
    assert "torch" not in loaded_by("import thinned.mc.ray._read, thinned.mc.ray._numbered")


def modules():
    of_triton = {"_bits", "_dropout", "_launch", "_launch_norm", "_norm"} if no_triton() else set()
    for info in pkgutil.walk_packages(thinned.__path__, "thinned."):
        parent, _, last = info.name.rpartition(".")
        if last != "_native" and not (parent.endswith("._triton") and last in of_triton):
            yield info.name


def no_triton():
    """It is for Linux alone."""
    return importlib.util.find_spec("triton") is None


@pytest.mark.parametrize("name", ["thinned", *modules()])
def test_examples_in_docstrings(name):
    module = importlib.import_module(name)
    threads = thinned._kernel._threads
    try:
        result = doctest.testmod(module, extraglobs={"np": importlib.import_module("numpy")})
    finally:
        thinned._kernel._threads = threads
    assert result.failed == 0


@pytest.mark.parametrize("name", ["README.md", "benchmarks/README.md"])
def test_commands_in_documents(name):
    """Every `thinned …` line is one that the command line takes: no unknown command, option or value."""
    lines = re.findall(r"^(?:\$ )?thinned (.+?)(?:  +#.*)?$", (ROOT / name).read_text(), re.MULTILINE)
    assert lines
    for line in lines:
        command, *arguments = shlex.split(line)
        main.commands[command].make_context(command, arguments)


def with_examples():
    for page in sorted((ROOT / "docs").rglob("*.md")):
        if ">>> " in page.read_text():
            yield str(page.relative_to(ROOT))


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # the compiler's own
@pytest.mark.parametrize("name", ["README.md", *with_examples()])
def test_examples_in_documents(name):
    torch.compiler.reset()  # or what other tests compiled counts towards the limit of recompilations
    result = doctest.testfile(
        str(ROOT / name), module_relative=False, optionflags=doctest.NORMALIZE_WHITESPACE
    )
    assert result.attempted > 0
    assert result.failed == 0
