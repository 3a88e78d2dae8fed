"""A headless Chromium, where one is installed."""

import shutil

import pytest

TIMEOUT = 60_000  # milliseconds: generous, a machine may be busy


@pytest.fixture(scope="session")
def chromium():
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    if not path:
        pytest.skip(f"none of {', '.join(names)} is on the path")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        yield browser
        browser.close()


@pytest.fixture
def tab(chromium):
    """A fresh page; an error in a script on it fails the test."""
    context = chromium.new_context(viewport={"width": 1300, "height": 3000})
    context.set_default_timeout(TIMEOUT)
    page = context.new_page()
    page.problems = []
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    yield page
    problems = page.problems
    context.close()
    assert not problems
