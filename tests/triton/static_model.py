"""Figures of `thinned bench --gpu-model`: a change that costs speed on a GPU shows where there is none."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from thinned.bench._gpu_model import CASES, CHIPS, SCORES, Row, merged, rows, select, write
from thinned.bench._gpu_model._code import around, blocks, by_pipe, usual
from thinned.cli.bench import bench

# Instructions of a thread for one element of 256 Mi, those of the logic pipe, and time over a copy's.
MOST = {"float32": (21.5, 10.5, 1.05), "bfloat16": (18.5, 9.7, 1.15), "float16": (18.0, 9.7, 1.15)}


def row_of(text, arch):
    """The one case that begins with these words: alpha_dropout has dropout's in its own."""
    (case,) = (case for case in select(text) if text.startswith(f"{case.name} {str(case.dtype)[6:]}"))
    return rows([case], [arch])[0]


def check(row):
    most, logic, ratio = MOST[row.dtype]
    assert (row.spilled, row.load, row.store) == (0, 16, 16)
    assert row.instructions <= most
    assert row.pipes["logic"] <= logic
    assert row.bound <= ratio
    # One wide product each of two in ten rounds, for eight elements, but what the first rounds share.
    assert 2.0 <= row.pipes["wide"] <= 2.6


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))


def test_dropout_of_bfloat16_is_bound_by_memory(tmp_path):
    page = tmp_path / "model.md"
    words = ["--gpu-model", "dropout bfloat16 256Mi", "--arch", "sm_90", "--json", "--out", str(page)]
    ran = CliRunner().invoke(bench, words, catch_exceptions=False)
    rows = [Row(**each) for each in json.loads(ran.stdout)]
    (row,) = (row for row in rows if row.kernel == "dropout")
    check(row)
    assert row.limit == "memory"
    assert f"| {row.registers} | 0 | 4 |" in page.read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--gpu-model", "dropuot"], "no case of the GPU model has 'dropuot'; there are alpha_dropout,"),
        (["--gpu-model", "dropout", "--arch", "sm_70"], "arch must be of sm_80, sm_90, sm_100, gfx942, got"),
        (["--gpu-model", "--quick"], "--gpu-model measures nothing"),
        (["--arch", "sm_90"], "give --gpu-model with them"),
        (["--merge"], "give --gpu-model with them"),
        (["--gpu-model", "--merge"], "--merge keeps the rows of an earlier .json file: give it with --out"),
        (["--gpu-model", "--out", "model.txt"], "a result is written as .json or .md, got 'model.txt'"),
    ],
)
def test_what_the_command_refuses(words, said):
    ran = CliRunner().invoke(bench, words)
    assert ran.exit_code == 2
    assert said in " ".join(ran.output.split())


def test_the_command_names_its_cases():
    ran = CliRunner().invoke(bench, ["--gpu-model", "--list"])
    assert set(ran.output.split("\n")) - {""} == {case.name for case in (*CASES, *SCORES)}


def test_without_triton_the_command_names_the_remedy(monkeypatch):
    monkeypatch.setattr("thinned.cli._gpu_model.find_spec", lambda name: None)
    ran = CliRunner().invoke(bench, ["--gpu-model"])
    assert ran.exit_code == 1
    assert "pip install triton, on Linux" in ran.output


@pytest.mark.full  # two seconds each; the one above is of the kernel that all of these are
@pytest.mark.parametrize("arch", ["sm_80", "sm_90", "sm_100"])
@pytest.mark.parametrize("dtype", MOST)
def test_dropout_is_bound_by_memory(dtype, arch):
    check(row_of(f"dropout {dtype} 256Mi", arch))


@pytest.mark.full
@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
def test_a_transposed_layout_is_bound_by_memory(arch):
    for row in rows(select("dropout, transposed"), [arch]):
        assert (row.spilled, row.load, row.store, row.limit) == (0, 16, 16, "memory")
        assert row.instructions <= 33


# Instructions of a thread for an element, by kernel and dtype, and the bytes of its loads and stores. Seeds
# read nothing; what grows moves words of 32 places.
MOST_OF_OTHERS = {
    "alpha_dropout float32 256Mi": (22.5, 16, 16),
    "alpha_dropout bfloat16 256Mi": (19.5, 16, 16),
    "alpha_dropout, backward bfloat16": (18.5, 16, 16),
    "feature_alpha_dropout bfloat16": (11.5, 16, 16),
    "drop_block2d float32": (29.0, 16, 16),
    "drop_block2d bfloat16": (26.0, 16, 16),
    "drop_block2d, seeds float32": (17.5, 0, 4),
    "drop_block2d, growing float32": (16.5, 4, 4),
    "dropout_add float32": (23.5, 16, 16),
    "gaussian_dropout bfloat16": (245.0, 16, 16),
}


@pytest.mark.full
@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
@pytest.mark.parametrize("case", MOST_OF_OTHERS)
def test_what_each_kernel_takes_for_an_element(case, arch):
    most, load, store = MOST_OF_OTHERS[case]
    row = row_of(case, arch)
    assert (row.spilled, row.load, row.store) == (0, load, store)
    assert row.instructions <= most
    if row.kernel != "gaussian_dropout":
        assert (row.limit, row.pipes.get("double", 0)) == ("memory", 0)


@pytest.mark.full
@pytest.mark.parametrize("arch", ["sm_80", "sm_90", "sm_100", "gfx942"])
def test_nothing_is_spilled(arch):
    found = rows(CASES, [arch])
    assert len(found) == len(CASES)
    assert not {row.kernel for row in found if row.spilled}


PROGRAM = """
        /*0000*/                   IMAD.WIDE.U32 R2, R3, R4, RZ ;
        /*0010*/              @!P0 BRA `(.L_x_1) ;
        /*0020*/                   REDUX.MAX.S32 UR4, R2 ;
        /*0030*/              @!P1 BRA `(.L_x_1) ;
        /*0040*/                   LOP3.LUT R2, R2, R3, RZ, 0x3c, !PT ;
        /*0050*/                   LOP3.LUT R2, R2, R3, RZ, 0x3c, !PT ;
.L_x_1:
        /*0060*/               @P2 BRA `(.L_x_2) ;
        /*0070*/                   STG.E.128 desc[UR4][R2.64], R4 ;
        /*0080*/                   EXIT ;
.L_x_2:
        /*0090*/               @P3 STG.E.128 desc[UR4][R2.64], R4 ;
        /*00a0*/                   FMUL R2, R2, R3 ;
        /*00b0*/                   EXIT ;
"""


def test_the_usual_way_seeks_ties_finds_none_and_stores_a_whole_piece():
    assert len(blocks(PROGRAM, "cuda")) >= 5
    names = usual(PROGRAM, "cuda")
    assert names == [
        "IMAD.WIDE.U32", "BRA", "REDUX.MAX.S32", "BRA", "BRA", "STG.E.128", "EXIT",
    ]  # fmt: skip
    assert by_pipe(names, "cuda") == {"wide": 1, "other": 4, "memory": 2}


LOOPS = """
        /*0000*/                   MOV R1, R2 ;
        /*0010*/                   BRA.U UP0, `(.L_x_3) ;
.L_x_1:
        /*0020*/                   LDG.E.128 R4, desc[UR4][R2.64] ;
        /*0030*/                   FADD R4, R4, R5 ;
        /*0040*/               @P0 BRA `(.L_x_1) ;
        /*0050*/                   BRA `(.L_x_2) ;
.L_x_2:
        /*0060*/                   LDG.E R6, desc[UR4][R2.64] ;
        /*0070*/               @P1 BRA `(.L_x_2) ;
        /*0080*/                   STG.E desc[UR4][R2.64], R6 ;
.L_x_3:
        /*0090*/                   EXIT ;
"""


def test_the_usual_way_goes_round_each_loop_once_though_it_is_shorter_past_them():
    names = usual(LOOPS, "cuda")
    assert names == [
        "MOV", "BRA.U", "LDG.E.128", "FADD", "BRA", "BRA", "LDG.E", "BRA", "STG.E", "EXIT",
    ]  # fmt: skip
    assert around(LOOPS, "cuda") == ["LDG.E", "BRA"]
    assert around(LOOPS, "cuda", ("FADD",)) == ["LDG.E.128", "FADD", "BRA"]


def test_the_table_is_whole_and_says_what_it_may():
    """Every case on every GPU that has its kernel; what exceeds a copy is in docs/torch/cuda.md."""
    folder = Path(__file__).parents[2] / "benchmarks" / "gpu"
    found = [Row(**row) for row in json.loads((folder / "model.json").read_text())]
    said = {(row.kernel, row.dtype, row.elements, row.arch) for row in found}
    assert said == {
        (*case.label().values(), arch)
        for case in (*CASES, *SCORES)
        for arch in CHIPS
        if arch != "gfx942" or case in CASES
    }
    assert len(found) == len(said)
    assert not [row for row in found if row.spilled]
    slow = {"float32": 1.05, "bfloat16": 1.15, "float16": 1.15}
    over = {row.kernel for row in found if row.without is None and row.arch == "sm_90"
            and row.bound > slow[row.dtype]}  # fmt: skip
    assert over == {"gaussian_dropout"}
    assert (folder / "model.md").read_text().count("| attention") == len(SCORES) * 3


def test_parts_are_merged_into_one_table(tmp_path):
    text = (Path(__file__).parents[2] / "benchmarks" / "gpu" / "model.json").read_text()
    rows = [Row(**row) for row in json.loads(text)]
    file = tmp_path / "model.json"
    write(rows[10:], file)
    assert merged(rows[:20], file) == rows
    write([replace(rows[0], kernel="no case any more"), *rows[1:]], file)
    assert merged([], file) == rows[1:]
