"""Files that commands are given."""

import os

import numpy as np
import pytest
from cli_runs import FACTORY


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("inputs")
    (path / "factory.py").write_text(FACTORY)
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((40, 6)).astype(np.float32), rng.integers(0, 3, 40)
    np.savez(path / "data.npz", x=x, y=y)
    np.save(path / "data.npy", x)
    return path


@pytest.fixture
def here(folder, monkeypatch):
    """Run in the folder, which is afterwards as it was."""
    monkeypatch.chdir(folder)
    before = listed(folder)
    yield
    assert listed(folder) == before


def listed(folder):
    """Its files, but for the modules that Python compiles beside a factory."""
    return sorted(name for name in os.listdir(folder) if name != "__pycache__")
