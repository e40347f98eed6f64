"""Installed where there is no compiler, and where there is one that cannot compile the kernel."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DIGEST = "0a115cad0721bf632c29a01cb034ba99fd13916e7913baf343fd90fd33edf0db"

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(importlib.util.find_spec("scikit_build_core") is None, reason="no scikit-build-core"),
    pytest.mark.skipif(os.name != "posix", reason="/bin/false is a compiler of this kind of system"),
]


@pytest.fixture
def source(tmp_path):
    """What is built from, apart from this tree and from what it was built to."""
    folder = tmp_path / "source"
    for name in ("native", "src"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    for name in ("CMakeLists.txt", "pyproject.toml", "README.md", "LICENSE", "CONTRACT.md"):
        shutil.copy(ROOT / name, folder)
    return folder


def run(*command, **environment):
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return subprocess.run(
        list(map(str, command)),
        env={**os.environ, "PATH": path, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )


def test_without_a_compiler_the_reference_does_the_work(source, tmp_path):
    """A compiler that is missing and one that cannot make a program look alike."""
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / "bin" / "python"
    # NumPy and what builds: paths alone, so that no hook of an editable install is followed.
    sites = [path for path in sys.path if path.endswith("site-packages")]
    (site,) = (tmp_path / "venv" / "lib").glob("*/site-packages")
    (site / "others.pth").write_text("\n".join(sites))
    how = ("--no-build-isolation", "--no-deps", "--ignore-installed", "--no-index")
    done = run(python, "-m", "pip", "install", *how, source, CXX="/bin/false")
    assert done.returncode == 0, done.stdout + done.stderr
    code = f"""
import hashlib, thinned
from thinned import _kernel
assert thinned.__file__.startswith({str(site)!r}), thinned.__file__
assert _kernel.paths() == ["reference"] == [_kernel.path()]
print(hashlib.sha256(thinned.keep_mask(1000, 0.1, key=thinned.Key(42, 7)).tobytes()).hexdigest())
"""
    result = run(python, "-W", "error", "-c", code)
    assert result.stdout.strip() == DIGEST, result.stderr
    facts = run(python, "-c", "from thinned.cli import main; main(['info', '--json'])")
    remedy = json.loads(facts.stdout)["remedy"]
    assert remedy.endswith(f"pip install --force-reinstall --no-deps --no-cache-dir {source}"), facts.stderr


@pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler on this machine")
def test_what_a_compiler_cannot_compile_is_an_error(source, tmp_path):
    with (source / "native" / "add.cpp").open("a") as file:
        file.write("#error this does not compile\n")
    done = run(
        *(sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "--no-index"),
        *("--wheel-dir", tmp_path / "wheels", source),
    )
    assert done.returncode != 0
    assert "this does not compile" in done.stdout + done.stderr
    assert not list(tmp_path.glob("wheels/*"))
