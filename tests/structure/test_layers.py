"""The direction of the code: contract ← kernel ← front ends ← libraries of layers ← tools, and never back."""

import ast
from pathlib import Path

import pytest

import thinned

ROOT = Path(thinned.contract.__file__).parent

# Room by room. A room may import those above it in this list, and itself.
ROOMS = {
    "contract": [
        "_installed",
        "contract",
        "_philox",
        "_private",
        "_states",
        "_audit",
        "_quantile",
        "_position",
        "_boxes",
        "_blocks",
        "_normal",
        "_overlap",
        "_arguments",
    ],
    "kernel": ["_kernel", "_reference", "_environment", "_native"],
    "front ends": ["", "_numpy", "jax", "tensorflow", "torch"],
    "libraries of layers": ["equinox", "flax", "keras"],  # on the front ends of the frameworks beneath them
    "tools": [
        "_files",
        "_process",
        "testing",
        "audit",
        "averages",
        "conformance",
        "exact",
        "mc",
        "bench",
        "demo",
        "cli",
        "__main__",
    ],
}
LEVEL = {name: level for level, names in enumerate(ROOMS.values()) for name in names}
# Tools stand on one another: the command line on all of them, the demo and the bench on what they show.
TOOL_MAY_USE = {
    "_files": set(),
    "_process": set(),
    "audit": set(),
    "testing": set(),
    "averages": set(),
    "exact": set(),
    "conformance": {"_process"},
    "mc": {"_files"},
    "bench": {"_process", "averages", "mc"},
    "demo": {"averages", "mc"},
    "cli": {"_files", "audit", "averages", "bench", "conformance", "demo", "mc"},
    "__main__": {"cli"},
}


def room(module):
    """The first name below `thinned`: "torch" for thinned.torch.nn, "" for the package itself."""
    return module.split(".")[1] if "." in module else ""


def imports(file):
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are absolute here"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                submodule = ROOT.parent / inner.replace(".", "/")
                is_module = (
                    submodule.is_dir() or submodule.with_suffix(".py").exists() or alias.name == "_native"
                )
                yield inner if is_module else node.module


FILES = sorted(ROOT.rglob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_imports_go_one_way(file):
    name = room("thinned." + ".".join(file.relative_to(ROOT).with_suffix("").parts)).replace("__init__", "")
    for target in (room(m) for m in imports(file) if m.split(".")[0] == "thinned"):
        assert target in LEVEL, f"{file.name} imports thinned.{target}, which has no room: give it one"
        if target == name:
            continue
        if LEVEL[target] == LEVEL[name] and LEVEL[name] >= 2:
            allowed = name == "" or target in TOOL_MAY_USE.get(name, ())
            assert allowed, f"{file.relative_to(ROOT)} imports sideways: thinned.{target}"
        assert LEVEL[target] <= LEVEL[name], f"{file.relative_to(ROOT)} imports backwards: thinned.{target}"


def test_every_module_has_a_room():
    assert {room("thinned." + f.relative_to(ROOT).parts[0].removesuffix(".py")) for f in FILES} - {
        "__init__"
    } <= set(LEVEL)


FRAMEWORKS = {"equinox", "flax", "jax", "keras", "tensorflow", "torch"}
# Of the rooms below the tools, the frameworks that their files may import; the others none.
OF_ROOM = {
    "jax": {"jax"},
    "tensorflow": {"tensorflow"},
    "torch": {"torch"},
    "equinox": {"equinox", "jax"},
    "flax": {"flax", "jax"},
    "keras": {"jax", "keras", "tensorflow", "torch"},
}


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_a_front_end_imports_its_own_framework_alone(file):
    name = file.relative_to(ROOT).parts[0].removesuffix(".py")
    if name not in ROOMS["tools"]:
        foreign = {m.split(".")[0] for m in imports(file)} & FRAMEWORKS
        assert foreign <= OF_ROOM.get(name, set()), f"{file.relative_to(ROOT)} imports {foreign}"


def module_of(file):
    return ".".join(("thinned", *file.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")


def circle(graph):
    """A way through a graph that comes back to where it began; none if there is no such way."""
    done = set()

    def walk(module, way):
        if module in way:
            return [*way[way.index(module) :], module]
        if module in done:
            return None
        found = next(filter(None, (walk(other, [*way, module]) for other in sorted(graph[module]))), None)
        done.add(module)
        return found

    return next(filter(None, (walk(module, []) for module in sorted(graph))), None)


def test_no_file_imports_itself_by_way_of_others():
    """In no room either, and not by an import inside a function."""
    modules = {module_of(file): file for file in FILES}
    graph = {
        name: {target for target in imports(file) if target in modules} - {name}
        for name, file in modules.items()
    }
    assert circle(graph) is None
    assert circle({**graph, "thinned.contract": {"thinned.torch.nn"}}) is not None


def folders():
    return sorted({file.parent for file in ROOT.rglob("*.py")})


@pytest.mark.parametrize("folder", folders(), ids=lambda folder: str(folder.relative_to(ROOT.parent)))
def test_a_folder_says_what_lives_there(folder):
    """In its `__init__`: one sentence, and from eight files on what they are."""
    said = ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) or ""
    lines = [line for line in said.splitlines() if line]
    assert len(lines) >= (3 if len(list(folder.glob("*.py"))) >= 8 else 1)


def test_every_folder_of_tests_is_in_their_readme():
    tests = Path(__file__).parents[1]
    said = (tests / "README.md").read_text()
    held = {file.parent.relative_to(tests).parts[0] for file in tests.glob("*/*.py")}
    assert {name for name in held if f"`{name}`" not in said} == set()
