"""The numbers that families draw: the contract's, of any part of a mask, however they are computed."""

import numpy as np
import pytest
import torch

from thinned import Key, contract
from thinned.torch._numbers import numbers

KEY = Key(2**63 + 5, 2**40 + 1)
WHOLE = (9, 6)


def contracts(positions):
    u = contract._number(KEY, positions, contract.PURPOSE_HIGH, contract.PURPOSE_LOW)
    return torch.from_numpy(u.astype(np.int64)), torch.from_numpy(contract.normal(KEY, positions))


def positions(shape=WHOLE, of=(slice(None), slice(None))):
    return np.arange(np.prod(shape, dtype=int), dtype=np.uint64).reshape(shape)[of]


PARTS = {
    "whole": ({}, WHOLE, (slice(None), slice(None))),
    "rows, a run from the middle of a block": (
        {"global_shape": WHOLE, "start": (3, 0)},
        (4, 6),
        (slice(3, 7), slice(None)),
    ),
    "every second row": (
        {"global_shape": WHOLE, "start": (1, 0), "step": (2, 1)},
        (4, 6),
        (slice(1, 9, 2), slice(None)),
    ),
    "columns": ({"global_shape": WHOLE, "start": (0, 2)}, (9, 3), (slice(None), slice(2, 5))),
    "one row": ({"global_shape": WHOLE, "start": (5, 1)}, (1, 4), (slice(5, 6), slice(1, 5))),
}


@pytest.mark.parametrize("name", PARTS)
def test_a_part_has_the_contracts_numbers(name):
    place, shape, of = PARTS[name]
    word, z = contracts(positions(of=of))
    like = torch.empty(shape)
    assert torch.equal(numbers(like, KEY, "word", None, place), word)
    assert torch.equal(numbers(like, KEY, "normal", None, place), z)
    assert torch.equal(numbers(like, KEY, "middle", None, place), (word.double() + 0.5) / 2**32)


def test_shared_numbers_and_many_keys():
    word, _ = contracts(positions((9, 1)))
    assert torch.equal(numbers(torch.empty(WHOLE), KEY, "word", (None, 1)), word)
    word, _ = contracts(positions((1, 6)))
    assert torch.equal(numbers(torch.empty(WHOLE), KEY, "word", (1, None)), word)
    key = torch.tensor([KEY.seed - 2**64, KEY.stream])
    both = numbers(torch.empty(WHOLE), torch.stack([key, key]), "word")
    assert torch.equal(both, contracts(positions())[0].expand(2, *WHOLE))
    assert numbers(torch.empty(0, 4), KEY, "word").shape == (0, 4)
    far = {"global_shape": (2**40, 2**20), "start": (2**40 - 2, 2**20 - 9)}
    at = np.array(
        [[(2**40 - 2 + row) * 2**20 + 2**20 - 9 + n for n in range(9)] for row in range(2)], np.uint64
    )
    assert torch.equal(numbers(torch.empty(2, 9), KEY, "word", None, far), contracts(at)[0])
    assert torch.equal(numbers(torch.empty(1, 9), KEY, "word", None, far), contracts(at[:1])[0])
