"""The kernel without Python, under AddressSanitizer and UndefinedBehaviorSanitizer."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.full
@pytest.mark.timeout(900)
def test_the_selftest_is_clean_under_sanitizers():
    if shutil.which("c++") is None:
        pytest.skip("no C++ compiler on this machine")
    cmake = shutil.which("cmake", path=ROOT / ".venv" / "bin") or shutil.which("cmake")
    if cmake is None:
        pytest.skip("no cmake on this machine")
    build = ROOT / "build" / "sanitize"
    for command in (
        [cmake, "-S", ROOT, "-B", build, "-DTHINNED_SELFTEST=ON", "-DTHINNED_SANITIZE=address,undefined"],
        [cmake, "--build", build],
        [build / "thinned_selftest", "60"],
    ):
        result = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stdout + result.stderr
    assert "0 failed" in result.stdout
