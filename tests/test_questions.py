"""The code on the page of questions runs as it stands."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "QUESTIONS.md").read_text()
ANSWERS = re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S)
BLOCKS = [
    (title, code)
    for title, text in ANSWERS
    for code in re.findall(r"```python\n(.*?)```", text, re.S)
]


@pytest.mark.parametrize("title, code", BLOCKS, ids=[title[:40] for title, _ in BLOCKS])
def test_the_code_of_an_answer_runs_and_what_it_asserts_holds(title, code):
    exec(compile(code, title, "exec"), {})


def test_what_is_not_run_uses_names_that_exist():
    from stn_utils import data, fit, play  # noqa: F401

    (code,) = re.findall(r"```python no-run\n(.*?)```", PAGE, re.S)
    compile(code, "no-run", "exec")
    assert data.from_folder.__name__ in code and len(BLOCKS) >= 7


def test_links_of_the_page_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", PAGE):
        assert "://" in target or (ROOT / target).exists(), target
