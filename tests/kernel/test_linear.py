"""Linear maps of kept rows and columns, with gradients, on each path that multiplies, against float64."""

import numpy as np
import pytest

from thinned import _kernel

pytestmark = pytest.mark.skipif(_kernel.linear is None, reason="the native module is not built")

SCALE = 1.0 / 0.7
# Of kept numbers: some, most, blocks at either end, one, few in many, all.
KEPT = {
    "some": lambda random, n: random.random(n) >= 0.5,
    "most": lambda random, n: random.random(n) >= 0.02,
    "first": lambda random, n: np.arange(n) < (n + 1) // 2,
    "last": lambda random, n: np.arange(n) >= n // 3,
    "one": lambda random, n: np.arange(n) == n - 1,
    "few": lambda random, n: np.arange(n) % 40 == 0,
    "all": lambda random, n: None,
}
# Rows, and a weight: around blocks of 6 rows, panels of 16 and 64 columns, and what is packed at once.
SIZES = [
    (1, 1, 1),
    (5, 9, 7),
    (6, 16, 64),
    (7, 17, 65),
    (13, 130, 33),
    (200, 70, 300),
    (3, 40, 2100),
    (2, 2100, 40),
]


NONE = np.zeros(0, np.int64)


def numbers(random, kind, size):
    kept = KEPT[kind](random, size)
    if kept is None:
        return None
    kept[-1] |= not kept.any()
    return kept.nonzero()[0].astype(np.int64)


def address(array):
    return 0 if array is None else _kernel.address(array)


def guarded(*shape):
    """Memory of this shape within more of it, all poison."""
    room = np.full(int(np.prod(shape)) + 64, 77, np.float32)
    return room, room[32:-32].reshape(shape)


class Case:
    """One linear map, what NumPy makes of it, and what the kernel writes."""

    def __init__(self, batch, height, width, along, across):
        random = np.random.default_rng(height * width + batch)
        self.rows, self.columns = numbers(random, along, height), numbers(random, across, width)
        self.shape = height, width
        self.weight = random.standard_normal((height, width)).astype(np.float32)
        at = np.ix_(
            np.arange(height) if self.rows is None else self.rows,
            np.arange(width) if self.columns is None else self.columns,
        )
        part = self.weight[at].astype(float) * np.float32(SCALE)
        tall, wide = part.shape
        self.kept = self.shape, address(self.rows), tall, address(self.columns), wide, SCALE, batch
        self.x = random.standard_normal((batch, wide)).astype(np.float32)
        self.grad = random.standard_normal((batch, tall)).astype(np.float32)
        self.bias = random.standard_normal(height).astype(np.float32)
        few = self.bias if self.rows is None else self.bias[self.rows]
        self.plain = self.x @ part.T
        self.out = self.plain + few
        self.of_input = self.grad @ part
        self.of_weight, self.of_bias = np.zeros(self.shape), np.zeros(height)
        self.of_weight[at] = np.float32(SCALE) * (self.grad.astype(float).T @ self.x)
        self.of_bias[slice(None) if self.rows is None else self.rows] = self.grad.astype(float).sum(0)

    def forward(self, bias, threads):
        room, out = guarded(*self.out.shape)
        at = map(address, (self.x, self.bias if bias else None, out))
        _kernel.linear(address(self.weight), *self.kept, *at, threads)
        assert untouched(room)
        return out

    def gradients(self, wanted, threads):
        made = [guarded(*one.shape) for one in (self.of_input, self.of_weight, self.of_bias)]
        at = [address(out) if want else 0 for want, (_, out) in zip(wanted, made, strict=True)]
        weight = address(self.weight) if wanted[0] else 0
        _kernel.linear_gradients(weight, *self.kept, *map(address, (self.grad, self.x)), *at, threads)
        assert all(untouched(room) for room, _ in made)
        return [out for _, out in made]


class Samples:
    """Linear maps of many samples by parts of one weight, and what NumPy makes of them."""

    def __init__(self, batch, height, width, whole):
        random = np.random.default_rng(height + width * batch)
        self.batch, self.whole = batch, whole
        self.weight = random.standard_normal((height, width)).astype(np.float32)
        self.bias = random.standard_normal(height).astype(np.float32)
        kinds = [*KEPT, *KEPT]
        self.rows = [*(numbers(random, one, height) for one in kinds), NONE, None]
        self.columns = [*(numbers(random, one, width) for one in (*kinds[3:], *kinds[:3])), None, NONE]
        shared = random.standard_normal((batch, width)).astype(np.float32)
        self.x = [shared[:, kept] if kept is not None else shared for kept in self.columns]
        self.plain = [
            (one.astype(float) @ self.part(*kept).T)
            for one, *kept in zip(self.x, self.rows, self.columns, strict=True)
        ]
        # With all inputs one x is that of all samples but one. What that drops is not read.
        self.x = [np.ascontiguousarray(one) for one in self.x]
        if whole:
            own = np.full((batch, width), np.nan, np.float32)
            own[:, self.columns[4]] = self.x[4]
            self.x = [own if k == 4 else shared for k in range(len(self.x))]

    def part(self, rows, columns):
        part = self.weight if rows is None else self.weight[rows]
        return np.float32(SCALE) * (part if columns is None else part[:, columns]).astype(float)

    def run(self, bias, relu, threads):
        """What the kernel writes."""
        height, width = self.weight.shape
        counts = [
            [size if one is None else len(one) for one in kept]
            for kept, size in ((self.rows, height), (self.columns, width))
        ]
        made = [guarded(self.batch, tall) for tall in counts[0]]
        outs = [out for _, out in made]
        at = [list(map(address, one)) for one in (self.rows, self.columns, self.x, outs)]
        bias = address(self.bias) if bias else 0
        how = address(self.weight), (height, width), bias, SCALE, relu, self.whole, self.batch
        _kernel.linear_many(*how, at[0], counts[0], at[1], counts[1], *at[2:], threads)
        assert all(untouched(room) for room, _ in made)
        return outs


def untouched(room):
    return (room[:32] == 77).all() and (room[-32:] == 77).all()


def close(found, expected):
    return np.allclose(found, expected, rtol=1e-4, atol=3e-4)


@pytest.fixture
def multiplying(path):
    if not _kernel.multiplies():
        pytest.skip(f"{path} has no products")


@pytest.mark.parametrize("sizes", SIZES)
def test_a_map_of_what_is_kept_and_its_gradients(multiplying, sizes):
    kinds = list(KEPT)
    for turn, along in enumerate([*kinds, *kinds]):
        case = Case(*sizes, along, kinds[(2 * turn + turn // 7) % 7])
        assert close(case.forward(True, 2), case.out)
        assert close(case.forward(False, 2), case.plain)
        found = case.gradients((True, True, True), 2)
        expected = case.of_input, case.of_weight, case.of_bias
        assert all(map(close, found, expected))
        assert all((one[want == 0] == 0).all() for one, want in zip(found[1:], expected[1:], strict=True))


@pytest.mark.parametrize("wanted", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 1, 1)])
def test_what_is_not_wanted_is_not_written(multiplying, wanted):
    case = Case(7, 130, 70, "some", "some")
    found, expected = case.gradients(wanted, 2), (case.of_input, case.of_weight, case.of_bias)
    for one, want, is_wanted in zip(found, expected, wanted, strict=True):
        assert close(one, want) if is_wanted else (one == 77).all()


@pytest.mark.parametrize("kept", ["some", "all"])
def test_no_bit_depends_on_the_number_of_threads(multiplying, kept):
    case = Case(200, 500, 600, kept, kept)
    alone = [case.forward(True, 1), *case.gradients((True, True, True), 1)]
    for threads in (2, 3, 7):
        made = [case.forward(True, threads), *case.gradients((True, True, True), threads)]
        assert all(a.tobytes() == b.tobytes() for a, b in zip(alone, made, strict=True))


@pytest.mark.parametrize("whole", [False, True], ids=["kept inputs", "all inputs"])
@pytest.mark.parametrize("sizes", SIZES)
def test_maps_of_many_samples(multiplying, sizes, whole):
    case = Samples(*sizes, whole)
    few = [case.bias if rows is None else case.bias[rows] for rows in case.rows]
    with_bias = [plain + bias for plain, bias in zip(case.plain, few, strict=True)]
    assert all(map(close, case.run(False, False, 2), case.plain))
    assert all(map(close, case.run(True, False, 2), with_bias))
    assert all(map(close, case.run(True, True, 2), [np.maximum(one, 0) for one in with_bias]))


def test_a_relu_keeps_nan(multiplying):
    case = Samples(5, 20, 30, False)
    case.x[0][2] = np.nan
    assert np.isnan(case.run(True, True, 2)[0][2]).all()


@pytest.mark.parametrize("whole", [False, True])
def test_no_bit_of_a_sample_depends_on_the_number_of_threads(multiplying, whole):
    case = Samples(300, 130, 600, whole)
    alone = case.run(True, False, 1)
    for threads in (2, 3, 7, 40):
        made = case.run(True, False, threads)
        assert all(a.tobytes() == b.tobytes() for a, b in zip(alone, made, strict=True))


def test_a_path_without_products_says_so(path):
    if _kernel.multiplies():
        pytest.skip(f"{path} has products")
    case = Case(2, 3, 4, "all", "all")
    for run in (lambda: case.forward(True, 1), lambda: case.gradients((True, True, True), 1)):
        with pytest.raises(RuntimeError, match="no products on the code path"):
            run()
