"""The stored form of the chapters, their anatomy, and the tools that make them. nbval runs the cells themselves."""

import html
import importlib
import importlib.util
import inspect
import json
import operator
import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
CHAPTERS = sorted((ROOT / "notebooks").glob("*.ipynb"))
ORDER = [
    "Predict",
    "By hand",
    "In code",
    "Experiment",
    "Watch",
    "The study",
    "Exercises",
    "Summary",
]
SHORT = ["Predict", "By hand", "In code", "Exercises", "Summary"]  # chapter 00 trains nothing


def tool(name):
    if str(ROOT / "tools") not in sys.path:  # a tool may import another
        sys.path.append(str(ROOT / "tools"))
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read(path):
    return nbformat.read(path, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


chapters = pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)


@chapters
def test_stored_form_is_a_clean_run(path):
    notebook = read(path)
    nbformat.validate(notebook)
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert "widgets" not in notebook.metadata and "version" not in notebook.metadata.get(
        "language_info", {}
    )
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)
    assert all(not cell.metadata for cell in notebook.cells)
    assert tool("notebooks").faults(notebook) == []
    for cell in cells:  # a text printed in one go is stored in one piece
        streams = [output.get("name") for output in cell.outputs]
        assert not any(one and one == other for one, other in zip(streams, streams[1:]))


@chapters
def test_no_line_of_code_is_cut_off_on_a_page(path):
    for cell in code_cells(read(path)):
        assert all(len(line) <= 112 for line in cell.source.splitlines()), cell.source


@chapters
def test_stored_run_was_made_at_full_size_on_real_data(path):
    text = json.dumps([cell.outputs for cell in code_cells(read(path))])
    assert "STN_FAST=1" not in text and "glyphs, " not in text


@chapters
def test_anatomy(path):
    notebook = read(path)
    first, second = notebook.cells[0].source, notebook.cells[1].source
    assert (
        first.startswith(f"# {path.stem[:2]} · ")
        and "<!-- badge -->" in first
        and "](" in first
        and "?**" in first
    )
    assert (
        second.startswith("**You will be able to**")
        and "**Time**" in second
        and "**Hardware**" in second
    )
    headings = re.findall(
        r"^## (.+)$", "\n".join(c.source for c in notebook.cells if c.cell_type == "markdown"), re.M
    )
    wanted = SHORT if path.stem.startswith("00") else ORDER
    assert [heading for heading in headings if heading in wanted] == wanted
    assert (
        "**Next:**" in notebook.cells[-1].source
        and "*What would change our mind" in notebook.cells[-1].source
    )
    goals = len(re.findall(r"^\d\. ", second, re.M))
    assert goals == len(re.findall(r"^\d\. ", notebook.cells[-1].source, re.M)), (
        "the summary answers goal by goal"
    )
    assert 3 <= goals <= 5


def test_setup_cell_is_the_same_everywhere():
    assert len({code_cells(read(path))[0].source for path in CHAPTERS}) == 1


@chapters
def test_pictures_and_links_between_files_exist(path):
    for cell in read(path).cells:
        if cell.cell_type == "markdown":
            for target in re.findall(r"\]\(([^)#]+)\)", cell.source):
                if "://" not in target:
                    assert (path.parent / target).exists(), target


@chapters
def test_cells_are_short(path):
    for cell in code_cells(read(path))[1:]:
        assert len(cell.source.splitlines()) <= 32, cell.source[:80]


def test_progress_gif_stands_beside_a_film_strip():
    for path in CHAPTERS:
        if path.stem.startswith("00"):
            continue
        outputs = [output for cell in code_cells(read(path)) for output in cell.outputs]
        html = [str(output.get("data", {}).get("text/html", "")) for output in outputs]
        moving = [i for i, text in enumerate(html) if "data:image/gif" in text]
        assert moving and all("image/png" in outputs[i + 1].data for i in moving)
        assert all(len(text) < 250_000 * 4 / 3 + 500 for text in html if "data:image/gif" in text)


def test_fault_finder_sees_what_must_not_be_stored():
    find = tool("notebooks").faults

    def with_output(**output):
        cell = nbformat.v4.new_code_cell("1", outputs=[nbformat.v4.new_output(**output)])
        return find(nbformat.v4.new_notebook(cells=[cell]))

    assert with_output(output_type="stream", name="stderr", text="a warning")
    assert with_output(output_type="error", ename="ValueError", evalue="no", traceback=[])
    assert with_output(output_type="stream", name="stdout", text="saved in /home/somebody/x")
    assert with_output(output_type="stream", name="stdout", text="x" * 2_000_000)
    assert not with_output(output_type="stream", name="stdout", text="fine")


def test_normalise_numbers_cells_and_drops_widget_state():
    view = {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}, "text/plain": "VBox()"}
    cells = [nbformat.v4.new_code_cell(str(i), execution_count=7) for i in range(2)]
    cells[1].outputs = [nbformat.v4.new_output("display_data", data=view)]
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"widgets": {"state": {}}})
    made = tool("notebooks").normalise(notebook)
    assert [cell.execution_count for cell in made.cells] == [1, 2]
    assert "widgets" not in made.metadata and list(made.cells[1].outputs[0].data) == ["text/plain"]


def asked_by(page):
    """What a page loads and where it leads, {address: whether it loads it}, data: left out."""
    found = {}
    for tag, rest in re.findall(r"<(\w+)((?:\s+[\w:-]+(?:=\"[^\"]*\")?)*)", page.read_text()):
        for name, address in re.findall(r'\s(src|href)="([^"]*)"', rest):
            if not address.startswith(("data:", "mailto:")):
                loads = name == "src" or tag == "link"
                found[html.unescape(address)] = found.get(html.unescape(address), False) or loads
    return found


def expect_whole(folder):
    """Every page of a site loads nothing from elsewhere, and leads to files and places that exist."""
    pages = [page for page in folder.rglob("*.html") if "_static" not in page.parts]
    places = {
        page.resolve(): set(re.findall(r'\bid="([^"]+)"', page.read_text())) for page in pages
    }
    for page in pages:
        for address, loads in asked_by(page).items():
            if "://" in address:
                assert not loads, f"{page.name} loads {address}"
                continue
            path, _, place = address.partition("#")
            target = (page.parent / path.split("?")[0]).resolve() if path else page.resolve()
            assert target.exists(), f"{page.name} leads to {address}"
            if place and target in places:
                assert place in places[target], f"{page.name} leads to {address}"
    return pages


def test_course_makes_a_site_that_asks_nothing_of_the_network(tmp_path, monkeypatch):
    tools = tool("notebooks")
    (tmp_path / "notebooks").mkdir()
    first = "# 00 · Start\n\n**Is it whole?**\n\n![a](../assets/gifs/translated42.gif) $x$ [next](01_next.ipynb)"
    second = "# 01 · Next\n\n**Is it?**\n\n[play](../assets/play.html) [back](00_start.ipynb#By-hand)\n\n## By hand"
    for name, text in {"00_start": first + "\n\n## By hand", "01_next": second}.items():
        cells = [nbformat.v4.new_markdown_cell(text), nbformat.v4.new_code_cell("print(6 * 7)")]
        notebook = nbformat.v4.new_notebook(cells=cells)
        nbformat.write(notebook, tmp_path / "notebooks" / f"{name}.ipynb")
    monkeypatch.setattr(tools, "CHAPTERS", tmp_path / "notebooks")
    monkeypatch.setattr(tools.pages, "BUILD", tmp_path / "build")
    monkeypatch.setattr(tools.pages, "BESIDE", ["TEACHING"])
    assert tools.course() == 0
    expect_whole(tmp_path / "build")
    page, index = (
        (tmp_path / "build" / name).read_text()
        for name in ("notebooks/00_start.html", "index.html")
    )
    assert "42\n" in page and 'href="01_next.html"' in page and "mathjax/tex-chtml.js" in page
    assert "00 · Start" in index and "Is it whole?" in index and 'href="play.html"' in index


def test_the_site_of_the_stored_chapters_is_whole(tmp_path, monkeypatch):
    pages = tool("pages")
    monkeypatch.setattr(pages, "BUILD", tmp_path / "build")
    pages.main()
    assert len(expect_whole(tmp_path / "build")) >= len(CHAPTERS) + len(pages.BESIDE) + 1


def test_address_is_written_and_taken_away_again(tmp_path, monkeypatch):
    address = tool("address")
    for folder in ("notebooks", "assets"):
        (tmp_path / folder).mkdir()
    for path in [*CHAPTERS, ROOT / "README.md", ROOT / "pyproject.toml"]:
        (tmp_path / path.relative_to(ROOT)).write_bytes(path.read_bytes())
    monkeypatch.setattr(address, "ROOT", tmp_path)

    def texts():
        return {path: path.read_text() for path in tmp_path.rglob("*") if path.is_file()}

    address.main("")
    before = texts()
    address.main("https://github.com/someone/stn-course.git")
    after = texts()
    for path in tmp_path.glob("notebooks/*.ipynb"):
        assert f"github/someone/stn-course/blob/main/notebooks/{path.name}" in after[path]
        assert 'COURSE = \\"https://github.com/someone/stn-course\\"' in after[path]
        assert "raw.githubusercontent.com/someone/stn-course/main/assets/" in after[path]
        assert f"blob/main/notebooks/{path.name}" in after[tmp_path / "README.md"]
    address.main("https://github.com/someone/stn-course")
    assert texts() == after, "a second call changes nothing"
    address.main("")
    assert texts() == before
    with pytest.raises(SystemExit, match="expected https://github.com/OWNER/REPO"):
        address.main("https://example.org/x")


def test_source_that_a_chapter_prints_is_the_source_of_today():
    """A stored page must not show a function as it was before it was changed."""
    rooms = [
        importlib.import_module(f"stn_utils{room}")
        for room in ("", ".layers", ".models", ".train", ".warp")
    ]
    seen = 0
    for path in CHAPTERS:
        for cell in code_cells(read(path)):
            printed = "".join(output.get("text", "") for output in cell.outputs)
            asked = re.findall(r"inspect\.getsource\((\w+)([\w.]*)\)", cell.source)
            if ("part", "") in asked:
                (parts,) = re.findall(r"for part in \((.*)\):", cell.source)
                asked = re.findall(r"(\w+)([\w.]*)", parts)
            for first, rest in asked:
                room = next((room for room in rooms if hasattr(room, first)), None)
                if room is None:  # a name of the chapter's own
                    continue
                assert inspect.getsource(operator.attrgetter(first + rest)(room)) in printed, (
                    path.stem,
                    first + rest,
                )
                seen += 1
    assert seen


def test_numbers_in_prose_stand_in_a_table_or_output_of_the_chapter():
    """Every percentage that prose of a study section states is printed by a cell of the same chapter."""
    for path in CHAPTERS:
        notebook = read(path)
        printed = json.dumps([cell.outputs for cell in code_cells(notebook)])
        for cell in notebook.cells:
            if cell.cell_type == "markdown" and "<!-- from the table -->" in cell.source:
                for number in re.findall(r"\d+\.\d+", cell.source):
                    alone = rf"(?<![\d.]){re.escape(number)}(?!\d)"  # not a part of a longer number
                    assert re.search(alone, printed), f"{path.stem}: {number} is printed nowhere"


def test_a_handout_has_hints_and_no_solution_and_its_tally_is_taken(tmp_path, capsys):
    """Chapter 00 as a class gets it, one exercise answered."""
    tools = tool("notebooks")
    tools.handout(tmp_path / "class")
    copies = sorted((tmp_path / "class").glob("*.ipynb"))
    assert [copy.name for copy in copies] == [path.name for path in CHAPTERS]
    for copy, path in zip(copies, CHAPTERS):
        text, whole = copy.read_text(), path.read_text()
        assert "Solution</summary>" not in text and "what we saw" not in text
        assert text.count("Hint</summary>") == whole.count("Hint</summary>") > 0
        assert len(read(copy).cells) == len(read(path).cells)
    notebook = read(copies[0])
    answers = {
        "def mirror()": "import torch\n\n\ndef mirror():\n    return torch.tensor([[[-1.0, 0, 0], [0, 1, 0]]])",
        "def crop(": "def crop(*_):\n    return warp.affine()",  # wrong
    }
    for cell in code_cells(notebook):
        for start, answer in answers.items():
            cell.source = answer if cell.source.startswith(start) else cell.source
    nbformat.write(notebook, copies[0])
    capsys.readouterr()
    tools.tally([copies[0]])
    assert capsys.readouterr().out.strip().endswith("00_start_here.ipynb: 1 of 3 right")


TAUGHT = [
    path for path in CHAPTERS if path.stem[:2] in ("00", "01", "02", "03", "04", "05", "06", "07")
]


def prose_of(path):
    """The paragraphs of a chapter, its folds, tables, exercises, formulas and links left out."""
    paragraphs = []
    for cell in read(path).cells:
        if cell.cell_type != "markdown":
            continue
        if cell.source.startswith("## Exercises"):
            break
        text = re.sub(r"<details>.*?</details>|<!--.*?-->", "", cell.source, flags=re.S)
        text = re.sub(r"\$\$.*?\$\$", "", text, flags=re.S)
        text = re.sub(r"\]\([^)]*\)|\$[^$]*\$|`[^`]*`", "", text)
        blocks = re.split(r"\n\s*\n|\n(?=\d+\. |- )", text)
        paragraphs += [block for block in blocks if block.strip() and not block.startswith("|")]
    return paragraphs


@pytest.mark.parametrize("path", TAUGHT, ids=lambda p: p.stem)
def test_a_taught_chapter_is_short_and_its_paragraphs_carry_few_numbers(path):
    paragraphs = prose_of(path)
    assert sum(len(block.split()) for block in paragraphs) <= 3200
    names = r"^\d+\. |(?:SGD|Adam|momentum|[Cc]hapter|chapter's|seed) [\d.]+|\d+x\d+|\w-\d+"
    number = r"[-+]?\d+(?:[.,]\d+)*(?: ± [\d.]+)?(?:/\d+| of \d+)?"  # with its interval it is one
    for block in paragraphs:
        assert len(re.findall(number, re.sub(names, "", block))) <= 6, block


def test_the_drawings_are_those_that_their_tool_makes(tmp_path, monkeypatch):
    drawings = tool("drawings")
    for name in ("layer", *(f"layer-{part}" for part in drawings.PARTS)):
        lit = tuple(name.split("-")[1:])
        assert (drawings.IMAGES / f"{name}.svg").read_text() == drawings.layer(lit)
    assert (drawings.IMAGES / "theta.svg").read_text() == drawings.six_numbers()
    assert (drawings.IMAGES / "unrolled.svg").read_text() == drawings.unrolled()
    for path in drawings.IMAGES.glob("*.svg"):  # a browser shows nothing of one that is not XML
        ElementTree.parse(path)


def test_a_teacher_gets_two_pages_and_a_key_of_all_questions_and_exercises(tmp_path, monkeypatch):
    teacher = tool("teacher")
    monkeypatch.setattr(teacher, "BUILD", tmp_path)
    monkeypatch.setattr(teacher, "to_pdf", lambda name: False)  # as where no Chromium is
    teacher.main()
    key = (tmp_path / "key.html").read_text()
    for path in CHAPTERS:
        cells = read(path).cells
        assert key.count(html.escape(cells[0].source.splitlines()[0].lstrip("# "))) == 1
    asked = [
        n for p in CHAPTERS for c in read(p).cells for n in re.findall(r'answer\("\w+"', c.source)
    ]
    assert key.count("<br><b>(") == len(asked) and key.count("<pre>") == 3 * len(CHAPTERS)
    results = (ROOT / "RESULTS.md").read_text()
    page = html.unescape((tmp_path / "handout.html").read_text()).replace("−", "-")
    numbers = re.findall(r"[-+]\d+\.\d+ ± \d+\.\d+|\d+/\d+ \(\d+-\d+", page.replace("\xa0", " "))
    assert len(numbers) == 9 and all(number in results for number in numbers)
