"""The quick tier's choice of cases, as pytest collects them."""

import pytest
from covering import covering
from tiers import mark_what_a_design_leaves

MODULE = """
import pytest

@pytest.mark.{mark}
@pytest.mark.parametrize("dtype", ["a", "b", "c", "d"])
@pytest.mark.parametrize(("shape", "base"), [((1,), 0), ((2,), 0), ([3], False)])
@pytest.mark.parametrize("mode", [True, False])
def test_product(dtype, shape, base, mode):
    pass
"""


class Kept:
    """A plugin that notes what the quick tier keeps."""

    def pytest_collection_modifyitems(self, items):
        mark_what_a_design_leaves(items)
        self.params = [i.callspec.params for i in items if not i.get_closest_marker("full")]


@pytest.fixture
def kept(tmp_path):
    def of(mark):
        module, settings = tmp_path / f"{tmp_path.name}.py", tmp_path / "pytest.ini"
        module.write_text(MODULE.format(mark=mark))
        settings.write_text("[pytest]\nmarkers =\n  covering\n  full\n")
        seen = Kept()
        options = ["-c", str(settings), "--import-mode=importlib"]
        # The last collects garbage five times: three seconds, where frameworks are loaded.
        for plugin in ("cacheprovider", "xdist", "unraisableexception"):
            options += ["-p", f"no:{plugin}"]
        assert pytest.main(["--collect-only", "-qq", *options, str(module)], plugins=[seen]) == 0
        return seen.params

    return of


def values(params, *names):
    return {tuple(str(one[name]) for name in names) for one in params}


def test_every_pair_of_values_is_kept_and_half_of_the_product_is_left(kept):
    params = kept("covering")
    assert len(params) == 12  # of 24: as many as the two largest parameters have pairs
    for one, other, pairs in (("dtype", "shape", 12), ("dtype", "mode", 8), ("shape", "mode", 6)):
        assert len(values(params, one, other)) == pairs


def test_parameters_that_are_not_named_keep_every_combination(kept):
    params = kept('covering("dtype", "shape", strength=1)')
    assert len(params) == 2 * 2 * 4  # for either mode and base each dtype
    assert len(values(params, "base", "mode")) == 4


def test_at_strength_one_every_value_is_kept_once(kept):
    params = kept("covering(strength=1)")
    assert len(params) == 4
    assert len(values(params, "dtype")) == 4


def test_a_design_is_always_the_same_and_keeps_what_alone_has_a_pair():
    cases = [("a", 0), ("a", 1), ("b", 0), ("b", 1), ("c", 1)]
    assert covering(cases) == [0, 1, 2, 3, 4]
    assert covering(cases, strength=1) == covering(cases, strength=1) == [0, 3, 4]
