"""Each rule's page: its wrong code is found, its right code is not, and a fix makes the finding go away."""

import ast
import re
from pathlib import Path

import pytest

from thinned.audit import DEFAULT, RULES, check_text
from thinned.audit._fix import fixable, fixed_text

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "audit"


def part(code, heading):
    text = (FOLDER / f"{code}.md").read_text()
    section = text.split(f"## {heading}\n")[1].split("\n## ")[0]
    return re.search(r"```python\n(.*?)```", section, re.DOTALL)[1]


def codes(findings):
    return [finding.code for finding in findings]


def test_every_rule_has_a_page_and_every_page_a_rule():
    pages = sorted(page.stem for page in FOLDER.glob("THN[123]*.md"))
    assert pages == sorted(RULES)
    for code, rule in RULES.items():
        assert (FOLDER / f"{code}.md").read_text().startswith(f"# {code} {rule.name}\n")


def test_the_index_has_every_rule_and_says_which_are_on():
    index = (FOLDER / "README.md").read_text()
    for code, rule in RULES.items():
        row = re.search(
            rf"^\| \[{code}\]\({code}\.md\) \| {rule.name} \|.*\| (on|off) \|$", index, re.MULTILINE
        )
        assert row, code
        assert row[1] == ("on" if rule.default else "off")


@pytest.mark.parametrize("code", RULES)
def test_wrong_code_is_found_by_its_rule_alone(code):
    found = check_text(part(code, "Wrong"), codes=[*DEFAULT, code])
    assert set(codes(found)) == {code}


@pytest.mark.parametrize("code", RULES)
def test_nothing_but_its_rule_finds_the_wrong_code(code):
    others = [one for one in RULES if one != code]
    assert code not in codes(check_text(part(code, "Wrong"), codes=others))


@pytest.mark.parametrize("code", RULES)
def test_right_code_is_silent(code):
    assert codes(check_text(part(code, "Right"), codes=[*DEFAULT, code])) == []


FIXABLE = [code for code in RULES if fixable(check_text(part(code, "Wrong"), codes=[code]), unsafe=True)]


@pytest.mark.parametrize("code", FIXABLE)
def test_a_fix_leaves_python_that_the_rule_has_nothing_to_say_of(code):
    wrong = part(code, "Wrong")
    found = fixable(check_text(wrong, codes=[code]), unsafe=True)
    right, mended = fixed_text(wrong, found)
    assert mended == found
    ast.parse(right)
    assert codes(check_text(right, codes=[code])) == []


@pytest.mark.parametrize("code", RULES)
def test_both_codes_are_python(code):
    ast.parse(part(code, "Wrong"))
    ast.parse(part(code, "Right"))
