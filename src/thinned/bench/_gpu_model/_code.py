"""This file counts what a kernel's assembly does along its usual path."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

_NVIDIA = re.compile(r"^\s+/\*[0-9a-f]{4,}\*/\s+(@!?U?PT?\w* )?\s*([A-Z][A-Z0-9_.]*)(.*);")
_AMD = re.compile(r"^\s+([a-z]+_[a-z0-9_]+)(.*)$")
_LABEL = re.compile(r"^\.?(L_x_\d+|LBB\d+_\d+):")
_TARGET = re.compile(r"\.?(L_x_\d+|LBB\d+_\d+)")

# By their beginnings, the first that fits. What is in no pipe takes a slot of issue alone.
_PIPES = {
    "cuda": (
        ("wide", ("IMAD.WIDE", "IMAD.HI")),
        ("multiply", ("IMAD", "IDP")),
        ("float", ("FMUL", "FADD", "FFMA", "HMUL", "HFMA", "HADD")),
        ("tensor", ("HMMA", "HGMMA", "UTCHMMA")),
        ("double", ("DMUL", "DADD", "DFMA", "DSETP")),
        ("convert", ("F2F.", "I2F", "F2I", "MUFU", "POPC")),
        ("memory", ("LDG", "LDS", "LDL", "STG", "STS", "STL", "SHFL", "REDUX", "ATOM")),
        ("other", ("U", "R2U", "S2", "BRA", "EXIT", "BAR", "BS", "NOP", "MOV", "CS2R", "WARP", "DEP", "CALL",
                   "RET", "ERR", "LDC", "ACQ", "CCTL", "YIELD")),
        ("logic", ("",)),
    ),
    "hip": (
        ("wide", ("v_mad_u64", "v_mad_i64")),
        ("multiply", ("v_mul_lo", "v_mul_hi")),
        ("double", ("v_fma_f64", "v_mul_f64", "v_add_f64")),
        ("float", ("v_mul_f32", "v_pk", "v_fma", "v_add_f32", "v_sub_f32")),
        ("convert", ("v_cvt_f64", "v_cvt_f32_f64", "v_rcp", "v_rsq", "v_sqrt", "v_exp")),
        ("memory", ("buffer_", "global_", "ds_", "flat_", "s_load")),
        ("other", ("s_",)),
        ("logic", ("v_",)),
    ),
}  # fmt: skip


_STORES = ("STG", "buffer_store", "global_store")
_LOADS = ("LDG", "buffer_load", "global_load")
_TOUCHES = (*_STORES, *_LOADS)


@dataclass
class Block:
    """Instructions up to the next label or branch, and where control goes."""

    label: str | None = None
    names: list[str] = field(default_factory=list)
    jump: str | None = None
    falls: bool = True


def blocks(text: str, backend: str) -> list[Block]:
    """The blocks of the first function of an assembly, in its order."""
    found, here = [], Block()
    for line in text.splitlines():
        label = _LABEL.match(line)
        if label:
            found.append(here)
            here = Block(label.group(1))
            continue
        name, guarded, rest = _instruction(line, backend)
        if not name:
            if ".end_amdhsa_kernel" in line or line.startswith(".Lfunc_end"):
                break
            continue
        here.names.append(name)
        ends = name in ("EXIT", "s_endpgm")
        if name.startswith(("BRA", "s_branch", "s_cbranch")) or ends:
            target = _TARGET.search(rest)
            here.jump = target.group(1) if target and not ends else None
            # `BRA.U UP0, …` has its condition among the operands.
            condition = guarded or bool(rest.split("`")[0].strip(" ;"))
            here.falls = condition if backend == "cuda" else name.startswith("s_cbranch")
            found.append(here)
            here = Block()
    return [*found, here]


def _instruction(line: str, backend: str) -> tuple[str, bool, str]:
    match = (_NVIDIA if backend == "cuda" else _AMD).match(line)
    if not match:
        return "", False, ""
    if backend == "cuda":
        return match.group(2), bool(match.group(1)), match.group(3)
    return match.group(1), False, match.group(2)


def usual(text: str, backend: str) -> list[str]:
    """Instructions of the shortest way through that goes round each loop once, seeks ties and stores.

    A tie's branch and that of a part of a piece are longer than what goes round them. The way round the
    search is shorter, so a way with a reduction across a warp wins; and so is that past a loop, so a way wins
    that goes through the heart of each: the block of it that reads and writes most.
    """
    ways = _Ways(blocks(text, backend))
    return [name for i in ways.through() for name in ways.blocks[i].names]


def around(text: str, backend: str, mark: tuple[str, ...] = ()) -> list[str]:
    """Instructions of a loop, once around: of that with most instructions whose names begin with a mark.

    Of two with as many it is the shorter; ties are sought and none is found. Without a mark it is the
    innermost loop that reads memory. One thread may issue for all what has the mark, in blocks that the
    others go round: the blocks are searched, and not the way.
    """
    ways = _Ways(blocks(text, backend))
    found = {
        edge: [name for i in ways.along(*edge) for name in ways.blocks[i].names] for edge in ways.backward
    }
    if not mark:
        return min((names for names in found.values() if any(n.startswith(_LOADS) for n in names)), key=len)

    def marked(edge: tuple[int, int]) -> int:
        here = ways.blocks[edge[1] : edge[0] + 1]
        return sum(name.startswith(mark) for block in here for name in block.names)

    return found[max(found, key=lambda edge: (marked(edge), -len(found[edge])))]


# How much it has of what is wanted and how short it is; its blocks.
_Way = tuple[tuple[int, int], tuple[int, ...]]


class _Ways:
    """Ways through the blocks of a program."""

    def __init__(self, all_of_them: list[Block]) -> None:
        self.blocks = all_of_them
        place = {block.label: i for i, block in enumerate(all_of_them) if block.label}
        self.after = [
            [
                *([i + 1] if block.falls and i + 1 < len(all_of_them) else []),
                *([place[block.jump]] if block.jump in place else []),
            ]
            for i, block in enumerate(all_of_them)
        ]
        self.backward = self._backward()
        self.hearts = set(filter(None, (self._heart(self.along(*edge)) for edge in self.backward)))

    def _backward(self) -> list[tuple[int, int]]:
        """Edges to a block that the way has gone through: from a loop's last one to its first."""
        found, done, path = [], set[int](), [(0, iter(self.after[0]))]
        here = {0}
        while path:
            block, rest = path[-1]
            following = next(rest, None)
            if following is None:
                path.pop()
                here.discard(block)
                done.add(block)
            elif following in here:
                found.append((block, following))
            elif following not in done:
                here.add(following)
                path.append((following, iter(self.after[following])))
        return found

    def _heart(self, loop: list[int]) -> int | None:
        touches = {i: sum(name.startswith(_TOUCHES) for name in self.blocks[i].names) for i in loop}
        found = max(touches, key=lambda i: touches[i])
        return found if touches[found] else None

    def along(self, last: int, first: int) -> list[int]:
        """The way from a loop's first block to its last."""
        return self._best(first, lambda block: block == last, once=False)

    def through(self) -> list[int]:
        ends = ("EXIT", "s_endpgm")
        return self._best(0, lambda block: any(name in ends for name in self.blocks[block].names), once=True)

    def _best(self, first: int, is_last: Callable[[int], bool], once: bool) -> list[int]:
        """Of all ways the one that has most of what is wanted, and the shortest of these.

        Edges back are taken once, or never.
        """
        known: dict[Any, _Way | None] = {}

        def best(block: int, had: frozenset[Any]) -> _Way | None:
            state = (block, had)
            if state not in known:
                gains = self._gains(block, once) - had
                ways: list[_Way | None] = [((0, 0), ())] if is_last(block) else []
                for following in self.after[block]:
                    edge = (block, following)
                    if edge not in self.backward:
                        ways.append(best(following, had | gains))
                    elif once and edge not in had:
                        ways.append(best(following, had | gains | {edge}))
                found = max((way for way in ways if way), default=None)
                known[state] = None
                if found:
                    (gained, length), rest = found
                    length -= len(self.blocks[block].names)
                    known[state] = ((gained + len(gains), length), (block, *rest))
            return known[state]

        way = best(first, frozenset())
        return list(way[1]) if way else []

    def _gains(self, block: int, once: bool) -> frozenset[Any]:
        """What is wanted of a way, and had by one that goes through a block."""
        names = self.blocks[block].names
        return frozenset(
            what
            for what, there in (
                (block, once and block in self.hearts),
                ("seeks", any(name.startswith(("REDUX", "v_max_i32_dpp")) for name in names)),
                ("loads", any(name.startswith(_LOADS) for name in names)),
                ("stores", any(name.startswith(_STORES) for name in names)),
            )
            if there
        )


def by_pipe(names: list[str], backend: str) -> Counter[str]:
    """Tells how many of the instructions each pipe has."""
    kinds = _PIPES[backend]
    return Counter(next(pipe for pipe, begins in kinds if name.startswith(begins)) for name in names)


def width(names: list[str], kind: str) -> int:
    """Bytes of the widest access to memory, "load" or "store"."""
    begins = _STORES if kind == "store" else _LOADS
    found = [name for name in names if name.startswith(begins)]
    return max((next((size for end, size in _SIZES.items() if end in name), 4) for name in found), default=0)


_SIZES = {
    ".256": 32, ".128": 16, ".64": 8, ".U16": 2, ".U8": 1, "dwordx4": 16, "dwordx2": 8, "short": 2,
}  # fmt: skip
