"""Imports go down only, as docs/architecture.md draws them."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "hf_canary"

# From the ground up; a room, which is a folder or a file at the root, may import from lower floors, and nobody from its
# own but within a folder.
FLOORS = (
    {"errors", "arrays"},
    {"arguments"},
    {"runtime"},
    {"formats"},
    {"estimators", "tokenization"},
    {"injection", "tree"},
    {"canaries", "inference"},
    {"walks"},
    {"presence", "scoring"},
    {"measurement"},
    {"extraction"},
    {"decoding", "reporting"},
    {"measure"},
    {"metrics"},
    {"training"},
    {"callback"},
    {"demo"},
    {"cli"},
    {"__main__"},
)
SIDE_HOUSE = "models"  # stands on errors; entered by demo and cli alone
MAY_ENTER = {"demo", "cli", SIDE_HOUSE}


def floor_of(room: str) -> int:
    return next(number for number, floor in enumerate(FLOORS) if room in floor)


def imported_rooms(source: str, module: str) -> set[str]:
    """The rooms of hf_canary that `source` imports, at any depth of its code; type-checking imports too."""
    rooms = set()
    depth = module.count(".")
    for node in ast.walk(ast.parse(source)):
        names = []
        if isinstance(node, ast.ImportFrom) and node.level:
            if node.level == depth + 1:
                names = [node.module] if node.module else [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "hf_canary":
            rest = node.module.partition(".")[2]
            names = [rest] if rest else [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [a.name.partition(".")[2] for a in node.names if a.name.split(".")[0] == "hf_canary"]
        # `__version__` is a fact of the package and no room of it.
        rooms |= {name.split(".")[0] for name in names if name and not name.startswith("__")}
    return rooms


def upward(source: str, module: str) -> set[str]:
    """The imports of `module` that the plan forbids."""
    room = module.split(".")[0]
    wrong = set()
    for other in imported_rooms(source, module) - {room}:
        if other == SIDE_HOUSE:
            allowed = room in MAY_ENTER
        elif room == SIDE_HOUSE:
            allowed = other == "errors"
        else:
            allowed = floor_of(other) < floor_of(room)
        if not allowed:
            wrong.add(other)
    return wrong


def modules() -> list[str]:
    paths = (path.relative_to(PACKAGE).with_suffix("") for path in PACKAGE.rglob("*.py"))
    return sorted(".".join(path.parts).removesuffix(".__init__") for path in paths if path.parts != ("__init__",))


def test_imports_go_down():
    """No room imports from its own floor or above, and only demo and cli enter the side house."""
    for module in modules():
        path = PACKAGE / Path(*module.split("."))
        file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        name = f"{module}.__init__" if path.is_dir() else module
        assert upward(file.read_text(encoding="utf-8"), name) == set(), module


@pytest.mark.parametrize(
    ("source", "module", "wrong"),
    [
        ("from .measure import measure_exposure", "scoring", {"measure"}),
        ("def late():\n    from .callback import ExposureCallback", "measure", {"callback"}),
        ("from ..measure import log_perplexity", "walks.score", {"measure"}),
        ("from hf_canary import canaries", "estimators.exposures", {"canaries"}),
        ("import hf_canary.cli", "reporting.plots", {"cli"}),
        ("from . import models", "measure", {"models"}),
        ("from ..formats import CanaryFormat", "models.lstm", {"formats"}),
        ("from ..canaries import CanarySet", "tree.token_tree", {"canaries"}),
        ("from ...measure import measure_exposure", "walks.search.goals", {"measure"}),
        ("from .errors import CanaryError\nfrom .formats import CanaryFormat", "canaries", set()),
        ("from . import models\nfrom .measure import x", "cli", set()),
        ("from . import __version__", "cli", set()),
    ],
)
def test_the_rule_sees_an_upward_import(source, module, wrong):
    """The test above can fail."""
    assert upward(source, module) == wrong


def imported_modules(source: str, module: str) -> set[str]:
    """The modules of its own folder that `source` imports when it is loaded."""
    folder, found = module.rpartition(".")[0], set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            names = [node.module] if node.module else [alias.name for alias in node.names]
            found |= {f"{folder}.{name}" for name in names}
    return found


def in_order(imports: dict[str, set[str]]) -> list[str]:
    """The modules, each behind those that it imports; what stands in a circle is left out."""
    done: list[str] = []
    while ready := [name for name, needs in imports.items() if name not in done and needs <= {*done}]:
        done += ready
    return done


def test_no_circle_within_a_folder():
    """The files of a folder can be read in an order, too; the comparison can fail."""
    assert in_order({"a.one": {"a.two"}, "a.two": {"a.one"}, "a.three": set()}) == ["a.three"]
    listed = [name for name in modules() if "." in name and not (PACKAGE / Path(*name.split("."))).is_dir()]
    sources = {name: (PACKAGE / Path(*name.split("."))).with_suffix(".py").read_text("utf-8") for name in listed}
    imports = {name: imported_modules(source, name) & {*listed} for name, source in sources.items()}
    assert set(in_order(imports)) == {*listed}


def test_the_root_has_the_doors_alone():
    """Public verbs, the ground, the two commands: what else there is has a folder."""
    doors = {"canaries", "scoring", "measure", "decoding", "callback"}
    assert {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"} == (
        doors | {"errors", "arrays", "arguments"} | {"cli", "demo", "__main__"}
    )


def test_every_module_says_first_what_it_does():
    """Each file opens with a docstring."""
    for path in PACKAGE.rglob("*.py"):
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path


def test_the_plan_in_the_docs_names_every_room():
    """docs/architecture.md draws what stands: each folder and each file."""
    plan = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    for module in modules():
        path = PACKAGE / Path(*module.split("."))
        name = f"{path.name}/" if path.is_dir() else f"{path.name}.py"
        assert name in plan, module
