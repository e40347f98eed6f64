"""What needs a package says which extra brings it, before anything else."""

import importlib
import json
import re
import sys
import tomllib
from pathlib import Path

import pytest

import thinned._installed
from thinned._installed import install

ROOT = Path(__file__).parents[2]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
# Every module that needs a package: the package, and the extra that brings it.
NEEDS = {
    "thinned.audit": ("libcst", "audit"),
    "thinned.equinox": ("equinox", "equinox"),
    "thinned.flax": ("flax", "flax"),
    "thinned.jax": ("jax", "jax"),
    "thinned.keras": ("keras", "keras"),
    "thinned.mc.jax": ("jax", "jax"),
    "thinned.mc.keras": ("keras", "keras"),
    "thinned.mc.torch": ("torch", "mc"),
    "thinned.tensorflow": ("tensorflow", "tensorflow"),
    "thinned.torch": ("torch", "torch"),
    "thinned.torch.integrations.lightning": ("lightning", "integrations"),
    "thinned.torch.integrations.transformers": ("transformers", "integrations"),
    "thinned.torch.transformers": ("transformers", "transformers"),
}


@pytest.mark.parametrize("module", NEEDS)
def test_a_missing_package_is_named_with_its_extra(module, monkeypatch):
    package, extra = NEEDS[module]
    if module.startswith("thinned.torch."):
        pytest.importorskip("torch", reason="torch is not installed")
    monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ModuleNotFoundError) as error:
        importlib.import_module(module)
    assert str(error.value) == f"{module} needs {package}, which is not installed: {install(extra)}"
    assert error.value.name == package


@pytest.mark.parametrize("backend", ["jax", "tensorflow", "torch"])
def test_kerass_framework_is_named_with_its_extra(backend, monkeypatch):
    def load(name):
        raise ModuleNotFoundError(f"No module named {backend!r}", name=backend)

    monkeypatch.setattr(thinned._installed, "needs", lambda *names: None)
    monkeypatch.setattr(importlib, "import_module", load)
    with pytest.raises(
        ModuleNotFoundError, match=f"thinned.keras runs Keras on {backend}, which is"
    ) as error:
        thinned._installed.needs_keras("thinned.keras")
    assert install("keras,jax") in str(error.value)
    assert "KERAS_BACKEND=jax" in str(error.value)


def test_every_module_that_asks_is_listed():
    source = ROOT / "src"
    files = [file for file in source.rglob("*.py") if re.search(r"^needs\w*\(", file.read_text(), re.M)]
    modules = [
        ".".join(file.relative_to(source).with_suffix("").parts).removesuffix(".__init__") for file in files
    ]
    assert sorted(modules) == sorted(NEEDS)


@pytest.mark.parametrize("extra", sorted({extra for _, extra in NEEDS.values()}))
def test_the_extra_that_is_named_exists(extra):
    assert EXTRAS[extra]


@pytest.mark.parametrize(
    ("record", "line"),
    [
        (None, 'pip install "thinned[torch]"'),
        ({"url": "https://host/thinned.whl"}, 'pip install "thinned[torch]"'),
        ({"url": "file:///nowhere/thinned.whl"}, 'pip install "thinned[torch]"'),
        ({"url": "file://{here}", "dir_info": {}}, "pip install 'thinned[torch] @ file://{here}'"),
        ({"url": "file://{here}", "dir_info": {"editable": True}}, "pip install --editable '{here}[torch]'"),
    ],
)
def test_the_line_to_install_an_extra_fits_the_installation(record, line, monkeypatch, tmp_path):
    class Distribution:
        def read_text(self, name):
            assert name == "direct_url.json"
            return record and json.dumps(record).replace("{here}", str(tmp_path))

    monkeypatch.setattr(thinned._installed, "distribution", lambda name: Distribution())
    assert install("torch") == line.replace("{here}", str(tmp_path))
