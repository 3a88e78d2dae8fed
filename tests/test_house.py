"""The house: imports go downwards, the module stays small, nothing personal or heavy is committed."""

import ast
import collections
import json
import re
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "stn_utils"
# From the ground up: a room imports only from rooms before it. Those in one tuple are neighbours.
FLOORS = [
    ("names", "spec", "_torchvision"),
    ("warp",),
    ("families", "diagnose", "actions"),
    ("layers",),
    ("models", "data"),
    ("experiment",),
    ("metrics",),
    ("run",),
    ("board", "stack"),
    ("ranks",),
    ("train",),
    ("study", "doctor"),
    ("show",),
    ("player",),
    ("exercises",),
    ("__init__",),
    ("cli",),
    ("__main__",),
]
LEVEL = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}
MODULES = sorted(PACKAGE.rglob("*.py"))
COURSE = [path for path in MODULES if "exercises" not in path.parts]
NO_WORDS = {
    getattr(tokenize, name)
    for name in "COMMENT NL NEWLINE INDENT DEDENT ENCODING ENDMARKER".split()
}


def room_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_rooms(path):
    """Rooms of stn_utils that a module imports, wherever in the file; for type hints alone it may look up."""
    depth = len(path.relative_to(PACKAGE).parts)
    tree = ast.parse(path.read_text())
    hints = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    for_hints = {id(node) for block in hints for node in ast.walk(block)}
    for node in ast.walk(tree):
        if id(node) in for_hints:
            continue
        if isinstance(node, ast.Import):  # the package names itself by dots alone
            assert not any(alias.name.split(".")[0] == PACKAGE.name for alias in node.names), path
        if not isinstance(node, ast.ImportFrom) or node.level < depth:
            assert (
                getattr(node, "module", None) is None or node.module.split(".")[0] != PACKAGE.name
            ), path
            continue
        yield from (
            [node.module.split(".")[0]] if node.module else [alias.name for alias in node.names]
        )


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_downwards(path):
    own = room_of(path)
    for room in imported_rooms(path):
        assert LEVEL[room] < LEVEL[own] or room == own, (
            f"{own} imports {room}, which is not below it"
        )


def tokens_of(path):
    """How many tokens stand on every line of a file, comments, line ends and indents left out: {line: count}."""
    found, inside = collections.Counter(), 0
    with open(path, "rb") as file:
        for token in tokenize.tokenize(file.readline):
            # From Python 3.12 on an f-string comes in parts. Here it counts as one, as before.
            begins, ends = (
                tokenize.tok_name[token.type] == f"FSTRING_{end}" for end in ("START", "END")
            )
            if not inside and token.type not in NO_WORDS:
                found[token.start[0]] += 1
            inside += begins - ends
    return found


def test_the_module_stays_small(capsys):
    """It rises with what the course can do, not with how it is typed."""
    total = sum(sum(tokens_of(path).values()) for path in COURSE)
    with capsys.disabled():
        print(f" stn_utils: {total} tokens", end="")
    assert total <= 52_000


def test_lines_are_not_packed():
    counts = [
        (count, path.name, line) for path in COURSE for line, count in tokens_of(path).items()
    ]
    packed = sorted((entry for entry in counts if entry[0] > 30), reverse=True)
    assert len(packed) <= 0.01 * len(counts), packed


def functions_of(path):
    return [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.FunctionDef)]


def test_functions_fit_on_a_screen():
    for path in COURSE:
        for function in functions_of(path):
            said = function.body[0] if ast.get_docstring(function) else None
            lines = function.end_lineno - (said.end_lineno if said else function.lineno)
            assert lines <= 40, (
                f"{path.name}: {function.name} has {lines} lines without its docstring"
            )


@pytest.mark.parametrize("path", COURSE, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_what_a_reader_may_call_has_type_hints(path):
    tree = ast.parse(path.read_text())
    homes = [
        tree,
        *(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name[0] != "_"),
    ]
    for function in (
        node for home in homes for node in home.body if isinstance(node, ast.FunctionDef)
    ):
        if function.name.startswith("_") and function.name != "__init__":
            continue
        given = function.args
        arguments = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
        bare = [
            a.arg for a in arguments if a and a.annotation is None and a.arg not in ("self", "cls")
        ]
        assert not bare and function.returns is not None, (
            f"{function.name}: {', '.join(bare) or 'what it returns'}"
        )


def test_importing_the_course_draws_nothing_and_changes_no_style():
    heavy = ("matplotlib", "PIL", "imageio", "IPython", "ipywidgets", "tensorboard", "torchvision")
    code = f"import sys, stn_utils; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_no_room_knows_a_chapter():
    for path in MODULES:
        if room_of(path) != "exercises":
            assert not re.search(r"\bch\d\d\b|\d\d_\w+\.ipynb", path.read_text()), path


def test_public_functions_say_what_they_do():
    for path in MODULES:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
                assert ast.get_docstring(node) or node.name == "main", (
                    f"{path.name}: {node.name} has no docstring"
                )


def test_committed_files_are_few_and_light():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    files = [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).exists()]
    assert not [f for f in files if f.suffix in (".pt", ".gz") or f.name.endswith("-ubyte")]
    assert sum(f.stat().st_size for f in files if (ROOT / "assets") in f.parents) <= 25_000_000
    assert not [f for f in files if f.suffix == ".gif" and f.stat().st_size > 500_000]


def test_torch_and_torchvision_are_pinned_together():
    pins = dict(
        re.findall(
            r"^(torch|torchvision)==(\d+\.\d+)\.\d+$", (ROOT / "constraints.txt").read_text(), re.M
        )
    )
    torch, vision = pins["torch"].split("."), pins["torchvision"].split(".")
    assert int(vision[1]) - int(torch[1]) == 15, "torchvision 0.(n + 15) belongs to torch 2.n"


def numbers_of(text):
    """Means with their intervals, and rates with theirs."""
    return re.findall(r"[-+]?\d+\.\d+ ± \d+\.\d+|\d+/\d+ \(\d+-\d+ %\)", text)


TABLES = [
    ("01", "vanilla", 4),
    ("02", "normalization", 7),
    ("03", "optimizer", 9),
    ("04", "architectures scattered vanilla", 5),
    ("05", "coordconv layers_by_epochs", 5),
    ("06", "sequential looks", 3),
    ("07", "reinforced turned ablation", 5),
    ("08", "beyond freedom inverse addition", 7),
    ("09", "depth cifar10", 8),
    ("10", "birds", 8),
    ("11", "few instead beyond_range dropout", 26),
]


@pytest.mark.parametrize("chapter, names, count", TABLES)
def test_numbers_of_the_results_stand_in_the_studies(chapter, names, count):
    from stn_utils import study

    printed = "\n".join(study.table(study.load(name)) for name in names.split())
    alone = {  # the chapter alone prints some
        "04": ["c04-early"],
        "08": ["c08-ctable", "c08-inverse"],
        "10": ["c10-ctable"],
    }
    (path,) = (ROOT / "notebooks").glob(f"{chapter}_*.ipynb")
    for cell in json.loads(path.read_text())["cells"]:
        if cell["id"] in alone.get(chapter, []):
            printed += "".join(cell["outputs"][0]["text"])
    part = (
        (ROOT / "RESULTS.md")
        .read_text()
        .split(f"## What chapter {chapter} found")[1]
        .split("\n## ")[0]
    )
    rows = [line for line in part.splitlines() if line.startswith("|")][2:]
    assert len(rows) == count
    assert len(numbers_of(part)) >= count
    for number in numbers_of(part):
        assert re.search(rf"(?<![\d.]){re.escape(number)}(?!\d)", printed), number


def test_numbers_of_the_first_page_stand_in_the_results():
    results = (ROOT / "RESULTS.md").read_text()
    numbers = numbers_of((ROOT / "README.md").read_text())
    assert len(numbers) >= 10
    assert not [number for number in numbers if number not in results]


def test_published_numbers_stand_beside_the_records_of_the_study_that_is_named():
    from stn_utils import study

    part = (ROOT / "RESULTS.md").read_text().split("## Beside the projects")[1]
    rows = [line for line in part.splitlines() if re.search(r"\| `\w+` \|$", line)]
    assert len(rows) >= 13
    for row in rows:
        ours, name = re.search(r"\| ([^|]*) \| `(\w+)` \|$", row).groups()
        assert ours == "under way" or all(
            number in study.table(study.load(name)) for number in numbers_of(ours)
        ), row
        assert ours == "under way" or numbers_of(ours), row
