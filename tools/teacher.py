"""Make what a teacher hands out, as PDF in build/: two pages for students, and the answer key.

python tools/teacher.py        needs Chromium; without one it leaves the pages as HTML and says so
"""

import contextlib
import html
import importlib
import io
import re
import shutil
import sys
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[1]
CHAPTERS, BUILD = ROOT / "notebooks", ROOT / "build"
SOLUTION = re.compile(r"<summary>Solution</summary>\s*```python\n(.*?)```", re.S)
CHECK = re.compile(r"\*\*Check\.\*\*\s*(.*)", re.S)
STYLE = """<style>
@page { size: A4; margin: 15mm; } body { font: 10pt/1.4 sans-serif; color: #1f2933; }
h2 { break-before: page; } h2:first-of-type { break-before: auto; } h3 { margin: 5mm 0 1mm; }
pre { font: 8.5pt/1.3 monospace; background: #f1f3f5; padding: 2mm; break-inside: avoid; }
</style>"""


def right_answer(chapter, name):
    """The right letter of a question, and why it is right, as the chapter's module says it."""
    answer = importlib.import_module(f"stn_utils.exercises.{chapter}").answer
    for letter in "abcd":
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            answer(name, letter)
        if said.getvalue().startswith(f"{name}: right. "):
            return letter, said.getvalue().removeprefix(f"{name}: right. ").strip()
    raise ValueError(f"{chapter}: question {name!r} has no right answer.")


def plain(text):
    """A sentence in Markdown as HTML: code as code, and theta, their one formula, as a word."""
    text = html.escape(text.replace(r"$\theta$", "theta"))
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", text)


def key_of(notebook):
    """A chapter's part of the key: its questions with their answers, its solutions."""
    parts = [f"<h2>{html.escape(notebook.cells[0].source.splitlines()[0].lstrip('# '))}</h2>"]
    question = ""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            question = (CHECK.findall(cell.source) or [question])[-1]
            for code in SOLUTION.findall(cell.source):
                parts.append(f"<pre>{html.escape(code)}</pre>")
            if cell.source.startswith("## Exercises"):
                parts.append("<h3>Exercises</h3>")
        for chapter, name in re.findall(r'(ch\d\d)\.answer\("(\w+)"', cell.source):
            letter, why = right_answer(chapter, name)
            asked, right = map(plain, (question, why))
            parts.append(f"<p>{asked}<br><b>({letter})</b> {right}</p>")
    return "\n".join(parts)


def write_key():
    """The key of all chapters, as a page."""
    chapters = [nbformat.read(path, as_version=4) for path in sorted(CHAPTERS.glob("*.ipynb"))]
    body = "\n".join(map(key_of, chapters))
    page = (
        f"<!doctype html><meta charset='utf-8'><title>Answer key</title>{STYLE}<h1>Answer key</h1>"
    )
    (BUILD / "key.html").write_text(page + body)


def write_handout():
    """The two pages, their drawings beside them."""
    text = (ROOT / "tools" / "handout.html").read_text()
    (BUILD / "handout.html").write_text(text.replace('src="images/', 'src="../assets/images/'))


def to_pdf(name):
    """build/NAME.html as build/NAME.pdf; False where there is no Chromium."""
    browsers = ("chromium", "chromium-browser", "google-chrome")
    path = next(filter(None, map(shutil.which, browsers)), None)
    if not path:
        return False
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto((BUILD / f"{name}.html").as_uri())
        page.pdf(path=BUILD / f"{name}.pdf", prefer_css_page_size=True, print_background=True)
        browser.close()
    return True


def main():
    BUILD.mkdir(exist_ok=True)
    write_handout()
    write_key()
    for name in ("handout", "key"):
        made = f"build/{name}.pdf" if to_pdf(name) else f"build/{name}.html: no Chromium for a PDF"
        print(made)


if __name__ == "__main__":
    sys.exit(main())
