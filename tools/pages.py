"""Make the chapters a site in build/: pages that need no server and no network.

python tools/pages.py       of the chapters as they are stored; open build/index.html

Jupyter Book does the work: navigation, search, phone and dark mode. Here is only what it is told.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import yaml

ROOT = Path(__file__).resolve().parents[1]
CHAPTERS, BUILD = ROOT / "notebooks", ROOT / "build"
BESIDE = [
    "RESULTS",
    "QUESTIONS",
    "COMMANDS",
    "TEACHING",
    "CONTRIBUTING",
]  # pages after the chapters
PLAY = "play.html"
CONFIG = {
    "title": "Spatial Transformer Networks",
    "author": "",
    "copyright": "",
    "logo": "",
    "execute": {"execute_notebooks": "off"},
    "only_build_toc_files": True,
    "parse": {"myst_enable_extensions": ["dollarmath", "amsmath", "colon_fence"]},
    "html": {"use_repository_button": False, "use_issues_button": False},
    "sphinx": {
        "extra_extensions": ["sphinx-mathjax-offline"],
        "config": {
            "myst_heading_anchors": 4,
            "nb_ipywidgets_js": {},  # no page has widgets, whose scripts would come from elsewhere
            "html_extra_path": ["extra"],
            "html_static_path": ["static"],
            "html_css_files": ["course.css"],
            "html_theme_options": {"navbar_persistent": [], "use_download_button": True},
            "html_show_sphinx": False,
            "html_show_copyright": False,
        },
    },
}
CSS = """
html[data-theme="light"] { --pst-color-primary: #c2410c; --pst-color-link: #c2410c; }
html[data-theme="dark"] { --pst-color-primary: #ff8f4f; --pst-color-link: #ff8f4f; }
.bd-article .sd-card-img-top { background: #fff; padding: .5rem; }
.bd-article details > summary { cursor: pointer; }
.cell_output img { background: #fff; }
"""
FIRST = """# Spatial Transformer Networks

A course in notebooks: a network that learns where to look, computed by hand, trained, broken and
measured. <a href="play.html">**Play with a trained one**</a>: draw a digit, drag it, and watch its
window follow.

<a href="play.html"><img src="play.png" style="max-width:100%"
alt="A digit on a canvas, the window that a trained network puts on it, and ten bars"></a>

"""


def title_of(notebook):
    """Title, question and first picture of a chapter, from its first cell."""
    lines = [line.strip() for line in notebook.cells[0].source.splitlines() if line.strip()]
    question = next(line.strip("*") for line in lines if line.startswith("**"))
    pictures = re.findall(r"!\[([^\]]*)\]\([^)]*?assets/([^)]*)\)", notebook.cells[0].source)
    return lines[0].lstrip("# "), question, pictures[0] if pictures else None


def prepared(notebook):
    """The same for the site: links to what is beside the pages, and code that only draws folded."""
    notebook = nbformat.from_dict(notebook)
    for cell in notebook.cells:
        source = re.sub(r"https://raw\.[^)]*?/main/assets/", "../assets/", cell.source)
        if cell.cell_type == "markdown":
            source = re.sub(
                r"\[([^\]]*)\]\(\.\./assets/play\.html\)", rf'<a href="../{PLAY}">\1</a>', source
            )
            source = re.sub(r"(\.ipynb#)([\w-]+)", lambda m: m[1] + m[2].lower(), source)
        elif "COURSE = " in source or "plt.subplots(" in source:
            cell.metadata["tags"] = ["hide-input"]
        cell.source = source
    return notebook


def card(name, notebook):
    """A chapter on the first page."""
    title, question, picture = title_of(notebook)
    image = f":img-top: assets/{picture[1]}\n:img-alt: {picture[0]}\n" if picture else ""
    link = f":link: notebooks/{name}\n:link-type: doc\n"
    return f":::{{grid-item-card}} {title}\n{link}{image}\n{question}\n:::\n"


def write_source(source, chapters):
    """All that Jupyter Book reads. chapters: {name: notebook}."""
    shutil.copytree(
        ROOT / "assets", source / "assets", ignore=shutil.ignore_patterns("studies", "traces")
    )
    for folder in ("notebooks", "extra", "static"):
        (source / folder).mkdir()
    page = (ROOT / "assets" / PLAY).read_text()
    course = "a course on spatial transformers"
    page = page.replace(course, f'<a href="index.html">{course}</a>')
    (source / "extra" / PLAY).write_text(page)
    shutil.copy(ROOT / "assets" / "images" / "play.png", source / "extra")
    (source / "static" / "course.css").write_text(CSS)
    for name in BESIDE:
        text = (ROOT / f"{name}.md").read_text()
        (source / f"{name}.md").write_text(
            text.replace(" ± ", "\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}")
        )
    for name, notebook in chapters.items():
        nbformat.write(prepared(notebook), source / "notebooks" / f"{name}.ipynb")
    cards = "\n".join(card(*chapter) for chapter in chapters.items())
    grid = f"::::{{grid}} 1 1 2 2\n:gutter: 3\n\n{cards}\n::::\n"
    (source / "index.md").write_text(FIRST + grid)
    parts = {"The chapters": [f"notebooks/{name}" for name in chapters], "Beside them": BESIDE}
    toc = {
        "format": "jb-book",
        "root": "index",
        "parts": [
            {"caption": caption, "chapters": [{"file": file} for file in files]}
            for caption, files in parts.items()
        ],
    }
    (source / "_toc.yml").write_text(yaml.safe_dump(toc))
    (source / "_config.yml").write_text(yaml.safe_dump(CONFIG))


def build(chapters):
    """Write the site of {name: notebook} into BUILD; says what to open."""
    shutil.rmtree(BUILD, ignore_errors=True)
    source = BUILD / "source"
    source.mkdir(parents=True)
    write_source(source, chapters)
    command = [Path(sys.executable).parent / "jupyter-book", "build", source, "-q"]
    subprocess.run(command, check=True)
    for page in (source / "_build" / "html").iterdir():
        shutil.move(page, BUILD)
    shutil.rmtree(source)
    for page in BUILD.rglob("*.html"):  # a button for running cells elsewhere, which no page has
        text = page.read_text()
        page.write_text(re.sub(r"<script[^>]*>[^<]*thebe[^<]*</script>", "", text))
    print(f"Open {BUILD.name}/index.html in a browser; it needs no network.")


def main():
    build({p.stem: nbformat.read(p, as_version=4) for p in sorted(CHAPTERS.glob("*.ipynb"))})


if __name__ == "__main__":
    main()
