"""A Python of its own for each of Keras's backends, as a process can have but one."""

import json
from pathlib import Path
from typing import NamedTuple

import nested

TESTS = Path(__file__).parents[1]
BACKENDS = ["torch", "jax", "tensorflow"]


class Suite(NamedTuple):
    """What a process examines: a module, what finds something in it, its checks, and warnings of others."""

    test: str  # the file that shows the cases
    module: str
    finder: str
    checks: tuple[str, ...]
    ignored: tuple[str, ...]


ARRAYS = "ignore:__array__ implementation doesn't accept:DeprecationWarning"
SUITES = [
    Suite(
        "keras/test_backends.py",
        "thinned.keras",
        "digests",
        (
            "keras/masks.py",
            "keras/rules.py",
            "keras/recurrent.py",
            "keras/models.py",
            "keras/seams.py",
            "keras/seams_of_backends.py",
            "keras/audits.py",
            "keras/attention.py",
            "keras/families.py",
        ),
        (
            ARRAYS,
            "ignore:The model does not have any trainable weights",
            "ignore:`torch.jit.script:DeprecationWarning",
        ),
    ),
    Suite(
        "mc/test_keras.py",
        "thinned.mc.keras",
        "mc_keras_samples",
        ("mc/mc_keras_checks.py", "mc/mc_keras_predictions.py"),
        (ARRAYS,),
    ),
]


def environment(backend):
    return {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}


def examined(backend, suites, marks):
    """What `keras_child.py` says of each suite's module, and the cases of its checks.

    One process for all, as Keras takes 6 s to start. A process that broke off has found nothing.
    """
    checks = [str(TESTS / check) for suite in suites for check in suite.checks]
    ignored = {word: None for suite in suites for word in suite.ignored}
    options = [word for warning in ignored for word in ("-W", warning)]
    modules = ",".join(f"{suite.module}:{suite.finder}" for suite in suites)
    child = str(TESTS / "support" / "keras_child.py")
    path = [TESTS, TESTS / "keras", TESTS / "mc"]
    done = nested.ran([child, modules, marks, *options, *checks], environment(backend), path)
    last = (done["printed"].splitlines() or [""])[-1]
    done["modules"] = json.loads(last) if last.startswith("{") else {}
    return done


def of(done, suite):
    """Of all that a process did, the part of one suite."""
    files = tuple(f"tests/{check}" for check in suite.checks)
    return {**done, "cases": [case for case in done["cases"] if case["name"].startswith(files)]}
