"""docs/conformance.md says what the suite does; and what the table says is missing, is missing."""

from pathlib import Path

import pytest
from conformance_faces import FACES, FEATURES, LACKS

PAGE = Path(__file__).parents[2] / "docs" / "conformance.md"


def table(*rows):
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def faces():
    families = {}
    for name, face in FACES.items():
        families.setdefault(face.family, []).append(name.removeprefix(face.family).strip() or "as it is")
    return table(("front end", "run as"), ("---", "---"), *((k, "; ".join(v)) for k, v in families.items()))


def lacks():
    rows = ((family, FEATURES[feature], why) for (family, feature), why in LACKS.items())
    return table(("front end", "what", "why"), ("---", "---", "---"), *rows)


@pytest.mark.parametrize(("mark", "made"), [("faces", faces()), ("lacks", lacks())], ids=["faces", "lacks"])
def test_the_page_has_the_table(mark, made):
    text = PAGE.read_text()
    found = text.split(f"<!-- {mark} -->\n\n")[1].split("\n\n")[0]
    assert found == made, f"the page's table should be:\n{made}"


@pytest.mark.parametrize("lack", LACKS, ids=str)
def test_what_the_table_says_is_missing(lack):
    """A feature that appears is a line that goes."""
    family, feature = lack
    for face in FACES.values():
        if face.family == family and feature in ("gradient", "fold"):
            assert not hasattr(face, feature)
        elif face.family == family:
            with pytest.raises(TypeError, match="unexpected keyword argument"):
                face.keep_mask((2,), 0.5, key=None, global_shape=(4,), start=(2,))
