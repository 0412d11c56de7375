"""The house rules, as a test: what a linter cannot say about this house (docs/adr/0002)."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("api", "worker", "dlr", "ledger", "cli", "embedded", "simulator", "shared")
FUNCTION_LINES_MAX = 40
FILE_LINES_MAX = 300
NESTING_MAX = 3
BANNED_NAMES = {"utils", "helpers", "common", "manager", "data", "info", "misc"}

# Each exception says why. A row that is no longer needed fails too.
LONG_FILES: dict[str, str] = {}
LONG_FUNCTIONS: dict[str, str] = {}
DEEP_FUNCTIONS: dict[str, str] = {}


def sources() -> list[Path]:
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def functions(path: Path) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{path.relative_to(ROOT)}:{node.name}", node


def lines_of(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring: promises are not complexity."""
    first = node.body[0]
    has_docstring = (
        isinstance(first, ast.Expr)
        and isinstance(first.value, ast.Constant)
        and isinstance(first.value.value, str)
    )
    docstring = (first.end_lineno or 0) - first.lineno + 1 if has_docstring else 0
    return (node.end_lineno or node.lineno) - node.lineno + 1 - docstring


def depth_of(node: ast.AST, depth: int = 0) -> int:
    nesting = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith, ast.Try, ast.Match)
    deepest = depth
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        # `elif` is an If in the orelse of an If: no deeper for a reader.
        is_elif = isinstance(node, ast.If) and isinstance(child, ast.If) and node.orelse == [child]
        deeper = depth + (isinstance(child, nesting) and not is_elif)
        deepest = max(deepest, depth_of(child, deeper))
    return deepest


def judge(found: dict[str, int], limit: int, allowed: dict[str, str]) -> None:
    over = {name: size for name, size in found.items() if size > limit}
    assert {name: size for name, size in over.items() if name not in allowed} == {}
    assert sorted(set(allowed) - set(over)) == [], "these exceptions are not needed any more"


def test_files_fit_in_a_head() -> None:
    found = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in sources()
    }
    judge(found, FILE_LINES_MAX, LONG_FILES)


def test_functions_fit_on_a_screen() -> None:
    found = {name: lines_of(node) for path in sources() for name, node in functions(path)}
    judge(found, FUNCTION_LINES_MAX, LONG_FUNCTIONS)


def test_nesting_stays_shallow() -> None:
    found = {name: depth_of(node) for path in sources() for name, node in functions(path)}
    judge(found, NESTING_MAX, DEEP_FUNCTIONS)


def test_names_say_what_is_inside() -> None:
    assert [str(path.relative_to(ROOT)) for path in sources() if path.stem in BANNED_NAMES] == []


def test_no_assert_guards_a_package() -> None:
    """Python can strip asserts: packages raise."""
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in sources()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Assert)
    ]
    assert found == []


def test_the_folder_alembic_is_no_package() -> None:
    """It would shadow the library of that name; tests must be one, or their names would clash."""
    assert not (ROOT / "alembic" / "__init__.py").exists()
    assert (ROOT / "tests" / "__init__.py").exists()


@pytest.mark.parametrize("package", PACKAGES)
def test_no_installed_distribution_has_a_package_named_like_ours(package: str) -> None:
    from importlib.metadata import packages_distributions

    assert set(packages_distributions().get(package, [])) <= {"tollwire"}


def test_money_never_meets_a_float() -> None:
    """The ledger and the domain of money hold no float literal and no division that makes one."""
    suspects = [
        ROOT / "shared/domain/money.py",
        ROOT / "shared/domain/rates.py",
        *(ROOT / "ledger").glob("*.py"),
    ]
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in suspects
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div) and "micros" in ast.unparse(node)
    ]
    assert found == []


def test_no_loop_gathers_tasks_that_leave_their_set_as_they_end() -> None:
    """From Python 3.12 on such a loop turns for ever where all have ended; ``loops.emptied`` does not."""
    found = [
        f"{path.relative_to(ROOT)}:{loop.lineno}"
        for path in sources()
        for loop in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(loop, ast.While)
        and f"gather(*{ast.unparse(loop.test)}," in ast.unparse(loop)
        and "asyncio.sleep(0)" not in ast.unparse(loop)
    ]
    assert found == []
