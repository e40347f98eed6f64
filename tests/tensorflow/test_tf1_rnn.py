"""Old recurrent code, in processes in which TensorFlow's Keras is Keras 2."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = [
    pytest.mark.full,  # a process each; test_rnn_drivers.py has the wrapper under the same drivers
]


def run(*arguments):
    pytest.importorskip("tf_keras", reason="tf_keras is not installed")
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("cell", ["BasicRNNCell", "BasicLSTMCell", "LSTMCell", "GRUCell"])
def test_a_cell_under_every_driver(cell):
    run(str(ROOT / "tests" / "tensorflow" / "tf1_rnn.py"), cell)


def test_the_guides_recurrent_code_runs_as_it_stands():
    text = (ROOT / "docs" / "guides" / "tensorflow1.md").read_text()
    (code,) = re.findall(r"^```python\n(import os\n.*?)^```", text, re.DOTALL | re.MULTILINE)
    run("-c", code)
