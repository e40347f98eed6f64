"""The direction of the code: contract ← kernel ← front ends ← libraries of layers ← tools, and never back."""

import ast
from functools import cache
from pathlib import Path

from sources import FILES, ROOT, module_of, nodes, relative

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
        "_concrete",
        "_normal",
        "_overlap",
        "_fixed",
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
        "results",
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
    "results": {"mc"},
    "bench": {"_process", "averages", "mc"},
    "demo": {"averages", "mc"},
    "cli": {"_files", "audit", "averages", "bench", "conformance", "demo", "mc"},
    "__main__": {"cli"},
}


def room(module):
    """The first name below `thinned`: "torch" for thinned.torch.nn, "" for the package itself."""
    return module.split(".")[1] if "." in module else ""


@cache
def imports(file):
    """Every module that a file imports, inside functions too."""
    return list(_imports(file))


def _imports(file):
    for node in nodes(file):
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


def fault(own, target):
    """What is wrong where a room imports another; None where nothing is."""
    if target not in LEVEL:
        return "has no room: give it one"
    if LEVEL[target] > LEVEL[own]:
        return "is backwards"
    sideways = target != own and LEVEL[target] == LEVEL[own] >= 2
    return "is sideways" if sideways and own and target not in TOOL_MAY_USE.get(own, ()) else None


def test_imports_go_one_way():
    faults = {
        f"{relative(file)} imports thinned.{target}, which {said}"
        for file in FILES
        for target in {room(module) for module in imports(file) if module.split(".")[0] == "thinned"}
        if (said := fault(room(module_of(file)), target))
    }
    assert not faults


def test_a_fault_is_seen():
    assert fault("torch", "jax") == "is sideways"
    assert fault("mc", "demo") == "is sideways"
    assert fault("contract", "torch") == "is backwards"
    assert fault("torch", "nowhere") == "has no room: give it one"
    assert fault("demo", "mc") is fault("torch", "_kernel") is fault("", "torch") is None


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


def test_a_front_end_imports_its_own_framework_alone():
    for file in FILES:
        own = room(module_of(file))
        foreign = {module.split(".")[0] for module in imports(file)} & FRAMEWORKS - OF_ROOM.get(own, set())
        assert own in ROOMS["tools"] or not foreign, f"{relative(file)} imports {foreign}"


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


def test_a_folder_says_what_lives_there():
    """In its `__init__`: one sentence, and from eight files on what they are, or below it."""
    for folder in {file.parent for file in FILES}:
        assert ast.get_docstring(nodes(folder / "__init__.py")[0]), relative(folder)
        said = (folder / "__init__.py").read_text().split("\nfrom ")[0].split("\nimport ")[0]
        lines = [line for line in said.splitlines() if line and line != '"""']
        assert len(lines) >= (3 if len(list(folder.glob("*.py"))) >= 8 else 1), relative(folder)


def test_every_folder_of_tests_is_in_their_readme():
    tests = Path(__file__).parents[1]
    said = (tests / "README.md").read_text()
    held = {file.parent.relative_to(tests).parts[0] for file in tests.glob("*/*.py")}
    assert {name for name in held if f"`{name}`" not in said} == set()
