"""Run Equinox's own tests of dropout, and of the attention that has one, with our layer in place of its own.

    python tests/equinox/equinoxs_own.py equinox

The folder is that of a checkout of equinox, of the version installed. All have to pass.
"""

from __future__ import annotations

import sys
from pathlib import Path
from unittest import mock

import pytest

TESTS = "dropout or attention"


def main(checkout):
    # Equinox's conftest.py has to come before Equinox.
    tests = Path(checkout) / "tests"
    return pytest.main(
        ["-p", "no:cacheprovider", "-v", "-W", "default", str(tests / "test_nn.py"), "-k", TESTS],
        plugins=[InPlace()],
    )


class InPlace:
    """A plugin of pytest that puts our layer in the place of Equinox's."""

    @pytest.fixture(autouse=True)
    def ours(self):
        import equinox

        import thinned.equinox

        own = thinned.equinox.nn.Dropout
        with (
            mock.patch.object(equinox.nn, "Dropout", own),
            mock.patch.object(sys.modules["equinox.nn._attention"], "Dropout", own),
        ):
            yield


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
