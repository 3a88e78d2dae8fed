"""Write the course's public address into pyproject.toml, the setup cells, the badges and the title
pictures.

python tools/address.py https://github.com/OWNER/REPO      ("" takes it away again)
"""

import re
import sys
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[1]
FORM = re.compile(r"https://github\.com/([\w.-]+)/([\w.-]+?)(?:\.git)?/?")
MARK = "<!-- badge -->"


def badge(address, path):
    """The Colab badge of one notebook, or only the mark that keeps its place."""
    if not address:
        return MARK
    where = address.replace("https://github.com/", "https://colab.research.google.com/github/")
    picture = "https://colab.research.google.com/assets/colab-badge.svg"
    return f"{MARK} [![Open in Colab]({picture})]({where}/blob/main/{path})"


def rewrite_notebook(notebook, address, path):
    """Badge and title picture in the first cell, the address in the setup cell; repeated, it
    changes nothing.
    """
    raw = (
        address.replace("https://github.com/", "https://raw.githubusercontent.com/") + "/main"
        if address
        else ".."
    )
    first = notebook.cells[0]
    first.source = re.sub(rf"^{MARK}.*$", badge(address, path), first.source, flags=re.M)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            pattern = r"\]\((?:\.\.|https://raw\.[^)]*?/main)/assets/"
            cell.source = re.sub(pattern, f"]({raw}/assets/", cell.source)
        if cell.cell_type == "code" and "COURSE = " in cell.source:
            cell.source = re.sub(
                r'^COURSE = ".*?"', f'COURSE = "{address}"', cell.source, flags=re.M
            )
    return notebook


def main(url):
    match = FORM.fullmatch(url)
    if url and not match:
        sys.exit(
            f"URL={url!r}: expected https://github.com/OWNER/REPO, the only kind that Colab opens."
        )
    address = f"https://github.com/{match[1]}/{match[2]}" if match else ""
    project = ROOT / "pyproject.toml"
    project.write_text(
        re.sub(r'^address = ".*?"', f'address = "{address}"', project.read_text(), flags=re.M)
    )
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        nbformat.write(rewrite_notebook(notebook, address, f"notebooks/{path.name}"), path)
    readme = ROOT / "README.md"
    lines = readme.read_text().splitlines()
    for i, line in enumerate(lines):
        if MARK in line:
            chapter = re.search(r"notebooks/\w+\.ipynb", line)[0]
            lines[i] = re.sub(
                rf"{MARK}(?: \[!\[[^|]*?\)\]\([^|)]*\))?", badge(address, chapter), line
            )
    readme.write_text("\n".join(lines) + "\n")
    print(f"The course's address is {address or 'not set'}.")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "")
