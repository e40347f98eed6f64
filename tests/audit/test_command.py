"""`thinned audit`: files, formats, fixes, settings and exit codes."""

import json

import pytest
from click.testing import CliRunner

from thinned.audit import RULES, check, check_file
from thinned.cli import main

WRONG = """import torch
import torch.nn as nn
import torch.nn.functional as F


class Net(nn.Module):
    def forward(self, x):
        x = F.dropout(x, 0.5)  # a comment
        x = x.relu()
        return nn.Dropout(p=0.1)(x)
"""


def run(*arguments):
    return CliRunner().invoke(main, ["audit", *map(str, arguments)])


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "net.py"
    path.write_text(WRONG)
    return path


def test_findings_are_a_line_each_and_the_status_is_1(file):
    result = run(file)
    assert result.exit_code == 1
    lines = result.output.splitlines()
    assert lines[0].startswith(f"{file}:8:13: THN101 [*] F.dropout without training= drops in evaluation")
    assert lines[1].startswith(f"{file}:10:16: THN106 [*] ")
    assert lines[2] == "Found 2 mistakes in 1 file; 2 can be mended with --fix."


def test_nothing_found_is_status_0(tmp_path):
    assert run(tmp_path).exit_code == 0  # a folder without Python is no error
    (tmp_path / "a.py").write_text("import torch\nd = torch.nn.Dropout(0.5)\n")
    result = run(tmp_path)
    assert (result.exit_code, result.output) == (0, "No mistakes with dropout found.\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["missing.py"], "missing.py: no such file or folder"),
        (["--select", "THN9", "."], "unknown rule 'THN9'"),
        (["--output-format", "xml", "."], "'xml' is not one of"),
        (["--explain", "THN999"], "there is no rule 'THN999'"),
    ],
)
def test_what_is_wrong_with_the_call_is_status_2(arguments, words):
    result = run(*arguments)
    assert result.exit_code == 2
    assert words in result.output


def test_fixes_mend_the_code_and_the_fixed_code_runs(file):
    result = run("--fix", file)
    assert (result.exit_code, result.output) == (0, "No mistakes with dropout found.\n")
    text = file.read_text()
    assert "x = F.dropout(x, 0.5, training=self.training)  # a comment\n" in text
    assert "return F.dropout(x, 0.1, training=self.training)\n" in text
    import torch

    names = {}
    exec(compile(text, str(file), "exec"), names)
    net, x = names["Net"](), torch.ones(1000)
    assert torch.equal(net.eval()(x), x)
    assert bool((net.train()(x) == 0).any())


def test_a_diff_writes_nothing(file):
    result = run("--diff", file)
    assert result.exit_code == 1
    assert "+        x = F.dropout(x, 0.5, training=self.training)  # a comment" in result.output
    assert file.read_text() == WRONG


def test_unsafe_fixes_are_asked_for(tmp_path):
    file = tmp_path / "a.py"
    before = "from torch import nn\nd = nn.Dropout(keep_prob)\n"
    file.write_text(before)
    assert run("--fix", file).exit_code == 1
    assert file.read_text() == before
    assert run("--fix", "--unsafe-fixes", file).exit_code == 0
    assert file.read_text() == "from torch import nn\nd = nn.Dropout(1 - keep_prob)\n"


def test_line_ends_of_windows_are_kept(tmp_path):
    file = tmp_path / "a.py"
    file.write_bytes(WRONG.replace("\n", "\r\n").encode())
    run("--fix", file)
    assert b"training=self.training)  # a comment\r\n" in file.read_bytes()
    assert b"\n" not in file.read_bytes().replace(b"\r\n", b"")


def test_json_has_ruffs_fields(file):
    [first, _] = json.loads(run("--output-format", "json", file).output)
    assert set(first) == {"code", "filename", "location", "end_location", "message", "fix", "cell", "url"}
    assert first["location"] == {"row": 8, "column": 13}
    assert first["fix"]["applicability"] == "safe"
    assert json.loads(run("--output-format", "json", file.parent / ".." / file.parent.name / "net.py").output)


def test_json_of_nothing_is_an_empty_list(tmp_path):
    assert json.loads(run("--output-format", "json", tmp_path).output) == []


def test_sarif_names_each_rule_once(file):
    whole = json.loads(run("--output-format", "sarif", file).output)
    [one] = whole["runs"]
    assert [rule["id"] for rule in one["tool"]["driver"]["rules"]] == ["THN101", "THN106"]
    region = one["results"][0]["locations"][0]["physicalLocation"]["region"]
    assert (region["startLine"], region["startColumn"]) == (8, 13)


def test_github_gets_an_annotation_a_finding(file):
    lines = run("--output-format", "github", file).output.splitlines()
    assert [line.split("::")[1].split(",")[0] for line in lines] == [
        "error title=thinned (THN101)",
        "error title=thinned (THN106)",
    ]


def test_a_project_says_which_rules(file):
    (file.parent / "pyproject.toml").write_text('[tool.thinned.audit]\nselect = ["THN106"]\n')
    assert "THN101" not in run(file).output
    assert "THN106" in run(file).output
    assert "THN101" in run("--isolated", file).output
    assert "THN101" in run("--extend-select", "THN101", file).output
    assert run("--ignore", "THN106", file).exit_code == 0


@pytest.mark.parametrize(
    "text", ["[tool.thinned.audit]\nselekt = []\n", '[tool.thinned.audit]\nselect = "THN1"\n', "[tool\n"]
)
def test_a_wrong_setting_is_an_error_that_names_the_file(file, text):
    (file.parent / "pyproject.toml").write_text(text)
    result = run(file)
    assert result.exit_code == 2
    assert "pyproject.toml" in result.output


def test_what_is_excluded_is_not_read(file):
    (file.parent / "old").mkdir()
    (file.parent / "old" / "a.py").write_text(WRONG)
    (file.parent / "venv").mkdir()
    (file.parent / "venv" / "a.py").write_text(WRONG)
    assert {one.filename for one in check([file.parent])} == {str(file), str(file.parent / "old" / "a.py")}
    assert {one.filename for one in check([file.parent], exclude=["old"])} == {str(file)}


def test_files_that_cannot_be_read_are_findings(tmp_path):
    bad = tmp_path / "bad.py"
    bad.write_bytes(b"# dropout \xff\n")
    assert [one.code for one in check_file(bad)] == ["THN000"]
    broken = tmp_path / "broken.ipynb"
    broken.write_text('{"cells": "dropout"}')
    assert [one.code for one in check_file(broken)] == ["THN000"]
    result = run(tmp_path)
    assert result.exit_code == 1
    assert "bad.py:1:1: THN000" in result.output


def notebook(*cells):
    cells = [
        {"cell_type": kind, "source": text.splitlines(keepends=True), "metadata": {}} for kind, text in cells
    ]
    return json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}, indent=1)


def test_a_notebook_is_read_by_cells_and_mended(tmp_path):
    file = tmp_path / "a.ipynb"
    file.write_text(
        notebook(
            ("markdown", "dropout"),
            ("code", "%matplotlib inline\n!pip install torch\nimport torch\nimport torch.nn.functional as F"),
            ("code", "%%bash\nif"),
            (
                "code",
                "class Net(torch.nn.Module):\n    def forward(self, x):\n        return F.dropout(x, 0.5)",
            ),
        )
    )
    result = run(file)
    assert f"{file}:cell 4:3:16: THN101 [*]" in result.output
    assert run("--fix", file).exit_code == 0
    cells = json.loads(file.read_text())["cells"]
    assert "".join(cells[3]["source"]).endswith("F.dropout(x, 0.5, training=self.training)")
    assert "".join(cells[1]["source"]).startswith("%matplotlib inline\n!pip")


def test_many_files_are_read_by_several_processes(tmp_path):
    for n in range(64):
        (tmp_path / f"m{n:02}.py").write_text(WRONG)
    found = check([tmp_path], workers=2)
    assert found == check([tmp_path], workers=1)
    assert len(found) == 128


def test_every_rule_can_be_explained():
    for code in RULES:
        result = run("--explain", code)
        assert result.exit_code == 0
        assert RULES[code].name in result.output
        assert len(result.output.splitlines()[2]) > 20
