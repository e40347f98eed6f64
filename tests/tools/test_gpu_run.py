"""`make gpu` says what keeps the kernels from running, and the remedy, before it runs anything."""

import importlib.util
import re
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

FILE = Path(__file__).parents[2] / "benchmarks" / "gpu" / "run.py"


@pytest.fixture
def run():
    spec = importlib.util.spec_from_file_location("gpu_run", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def machine(monkeypatch, run):
    """One on which all is well, and what is then changed of it."""

    def made(*, cuda="13.0", hip=None, triton=True, gpu=True, driver=None, capability=(9, 0)):
        def init():
            if driver is not None:
                raise driver

        monkeypatch.setattr(torch.version, "cuda", cuda)
        monkeypatch.setattr(torch.version, "hip", hip)
        monkeypatch.setattr(run, "find_spec", lambda name: object() if triton else None)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
        monkeypatch.setattr(torch.cuda, "init", init)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla P100")

    return made


NO_DRIVER = RuntimeError("Found no NVIDIA driver on your system.\nPlease check that you have a GPU")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"cuda": None}, r"torch \S+ is built for the CPU: install the build for your CUDA or ROCm"),
        ({"triton": False}, "triton is not installed, .*: pip install triton, on Linux"),
        ({"gpu": False}, r"built for CUDA 13.0, has no GPU: no GPU is visible \(CUDA_VISIBLE_DEVICES\?\)"),
        ({"gpu": False, "cuda": None, "hip": "6.4"}, r"built for ROCm 6.4, has no GPU: no GPU is visible"),
        ({"gpu": False, "driver": NO_DRIVER}, "has no GPU: Found no NVIDIA driver on your system.$"),
        ({"gpu": False, "driver": RuntimeError("")}, "has no GPU: RuntimeError$"),
        ({"capability": (6, 0)}, "Tesla P100 has compute capability 6.0, and Triton supports 7.0 and later"),
    ],
    ids=str,
)
def test_what_is_wrong_is_named_with_its_remedy(run, machine, changed, said):
    machine(**changed)
    assert re.search(said, run.trouble())
    with pytest.raises(SystemExit, match="make gpu DRY=1 shows on a CPU that it runs"):
        run.about(dry=False)


@pytest.mark.parametrize("changed", [{}, {"capability": (7, 0)}, {"hip": "6.4", "capability": (6, 0)}])
def test_nothing_is_wrong_where_kernels_run(run, machine, changed):
    machine(**changed)
    assert run.trouble() is None
    pytest.importorskip("triton")
    assert run.about(dry=False)["device"] == "Tesla P100"


def test_a_part_that_does_not_end_has_what_it_printed_and_says_so(run, monkeypatch):
    monkeypatch.setattr(run, "LIMITS", {"tests": 5, "times": 0.5})

    def late(*_, timeout, **__):
        raise run.subprocess.TimeoutExpired("python", timeout, output=b'{"kernel": "dropout"}\n')

    monkeypatch.setattr(run.subprocess, "run", late)
    code, text, _ = run.ran("times", "measure.py")
    assert code == 124
    assert text.splitlines() == ['{"kernel": "dropout"}', "", "times: not done in 0.5 s"]
