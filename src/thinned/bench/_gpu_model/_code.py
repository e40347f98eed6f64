"""This file counts what a kernel's assembly does along its usual path."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

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
            here.falls = guarded if backend == "cuda" else name.startswith("s_cbranch")
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
    """Instructions of the shortest way through that seeks ties and stores whole pieces.

    A tie's branch and that of a part of a piece are longer than what goes round them. The way round the
    search is shorter, so a way with a reduction across a warp wins; a loop's blocks are gone through once.
    """
    all_of_them = blocks(text, backend)
    place = {block.label: i for i, block in enumerate(all_of_them) if block.label}
    # Of each block the way from there: reductions, stores, length, blocks.
    best: dict[int, tuple[int, int, int, list[int]]] = {}
    # Backwards; an edge that goes back is that of a loop, which is run through once.
    for i in range(len(all_of_them) - 1, -1, -1):
        block = all_of_them[i]
        after = [i + 1] if block.falls and i + 1 < len(all_of_them) else []
        if block.jump in place and place[block.jump] > i:
            after.append(place[block.jump])
        ways = [best[j] for j in after if j in best]
        if not ways and not any(name in ("EXIT", "s_endpgm") for name in block.names):
            continue
        seeks = sum(name.startswith(("REDUX", "v_max_i32_dpp")) for name in block.names)
        stores = sum(name.startswith(_STORES) for name in block.names)
        found = max(ways, key=lambda w: (w[0] > 0, w[1] > 0, -w[2]), default=(0, 0, 0, []))
        best[i] = (found[0] + seeks, found[1] + stores, found[2] + len(block.names), [i, *found[3]])
    return [name for i in best[0][3] for name in all_of_them[i].names]


def by_pipe(names: list[str], backend: str) -> Counter[str]:
    """Tells how many of the instructions each pipe has."""
    kinds = _PIPES[backend]
    return Counter(next(pipe for pipe, begins in kinds if name.startswith(begins)) for name in names)


def width(names: list[str], kind: str) -> int:
    """Bytes of the widest access to memory, "load" or "store"."""
    begins = _STORES if kind == "store" else ("LDG", "buffer_load", "global_load")
    found = [name for name in names if name.startswith(begins)]
    return max((next((size for end, size in _SIZES.items() if end in name), 4) for name in found), default=0)


_SIZES = {
    ".256": 32, ".128": 16, ".64": 8, ".U16": 2, ".U8": 1, "dwordx4": 16, "dwordx2": 8, "short": 2,
}  # fmt: skip
