"""Execute the chapters, the only way their outputs are made.

python tools/notebooks.py store [NAME ...]   at full size, normalised, back into notebooks/
python tools/notebooks.py course             into build/, as a site that needs no network
python tools/notebooks.py handout FOLDER     copies without solutions, for a class
python tools/notebooks.py tally FILE ...     run what a class hands in: how many exercises are right
"""

import os
import re
import sys
from pathlib import Path

import nbformat
import pages
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[1]
CHAPTERS = ROOT / "notebooks"
LIMIT = 1_500_000  # bytes of a stored notebook
WIDGET = "application/vnd.jupyter.widget-view+json"
MACHINE_PATH = re.compile(r"/(?:root|home|Users|work|tmp|content)/|site-packages|[A-Z]:\\\\")


def execute(path):
    """Run a notebook top to bottom in a fresh kernel, in its own folder; errors stop the run."""
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=1800,
        kernel_name="python3",
        record_timing=False,
        store_widget_state=False,
        coalesce_streams=True,  # else the kernel's clock decides where a printed text is cut
        resources={"metadata": {"path": str(path.parent)}},
    )
    client.execute()
    return notebook


def normalise(notebook):
    """Counts 1..n, no machine's traces, a line of text where a slider needs a kernel."""
    notebook.metadata = {
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
        "language_info": {"name": "python"},
    }
    count = 0
    for cell in notebook.cells:
        cell.metadata = {}
        if cell.cell_type != "code":
            continue
        count += 1
        cell.execution_count = count
        for output in cell.outputs:
            output.pop("transient", None)
            if "execution_count" in output:
                output["execution_count"] = count
            if WIDGET in output.get("data", {}):
                output["data"] = {
                    "text/plain": "[a widget: it appears when this cell runs in Jupyter or Colab]"
                }
    return notebook


def faults(notebook):
    """What must not be stored: a list of sentences, empty if all is well."""
    found = []
    for number, cell in enumerate((c for c in notebook.cells if c.cell_type == "code"), start=1):
        for output in cell.outputs:
            text = nbformat.from_dict({k: v for k, v in output.items() if k != "metadata"})
            if output.output_type == "error" or output.get("name") == "stderr":
                found.append(f"code cell {number}: {output.get('text') or output.get('evalue')}")
            if MACHINE_PATH.search(str(text)):
                found.append(f"code cell {number}: a path of this machine")
    size = len(nbformat.writes(notebook))
    if size > LIMIT:
        found.append(f"{size:,} bytes, more than {LIMIT:,}")
    return found


def store(names):
    """Re-execute the named chapters, or all, and write them back if nothing is wrong with them."""
    bad = False
    for path in sorted(CHAPTERS.glob("*.ipynb")):
        if names and path.stem not in names:
            continue
        notebook = normalise(execute(path))
        found = faults(notebook)
        if found:
            bad = True
            print(f"{path.name}: not stored\n  " + "\n  ".join(found))
        else:
            nbformat.write(notebook, path)
            print(f"{path.name}: stored, {path.stat().st_size:,} bytes")
    return 1 if bad else 0


def course():
    """Execute every chapter, and make a site of them in build/."""
    pages.build({path.stem: normalise(execute(path)) for path in sorted(CHAPTERS.glob("*.ipynb"))})
    return 0


FOLD = re.compile(r"<details>\s*<summary>(?!Hint).*?</details>\s*", re.S | re.I)


def handout(folder):
    """Copy the chapters without the folds that hold solutions; hints stay."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(CHAPTERS.glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        taken, exercises = 0, False
        for cell in notebook.cells:
            exercises |= cell.source.startswith("## Exercises")  # folds before explain more
            if cell.cell_type == "markdown" and exercises:
                cell.source, count = FOLD.subn("", cell.source)
                taken += count
        nbformat.write(notebook, folder / path.name)
        print(f"{folder / path.name}: {taken} folds taken out")
    return 0


def tally(paths):
    """Run notebooks that were handed in, in fast mode, and count the exercises that are right."""
    os.environ.setdefault("STN_FAST", "1")
    ask = "from stn_utils.exercises import tally; tally()"
    for path in map(Path, paths):
        notebook = nbformat.read(path, as_version=4)
        notebook.cells.append(nbformat.v4.new_code_cell(ask))
        client = NotebookClient(
            notebook,
            timeout=600,
            allow_errors=True,
            resources={"metadata": {"path": str(CHAPTERS)}},
        )
        client.execute()
        said = "".join(output.get("text", "") for output in notebook.cells[-1].outputs)
        print(f"{path}: {said.strip() or 'could not be run'}")
    return 0


if __name__ == "__main__":
    command, *names = sys.argv[1:] or [""]
    if command == "handout" and len(names) == 1:
        sys.exit(handout(names[0]))
    commands = {"store": store, "course": lambda _: course(), "tally": tally}
    if command not in commands:
        sys.exit(__doc__)
    sys.exit(commands[command](names))
