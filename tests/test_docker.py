"""The container files hang together with the repository; no engine is needed, and none is tried."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
LINES = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if line and not line.startswith("#")]


def of(instruction):
    return [line.split(maxsplit=1)[1] for line in LINES if line.startswith(instruction + " ")]


def compose(name):
    return yaml.safe_load((ROOT / name).read_text())


def test_the_base_image_is_pinned_and_its_python_is_one_the_course_admits():
    (base,) = of("FROM")
    version = re.fullmatch(r"python:(\d+)\.(\d+)\.\d+-slim-\w+", base)
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert version and (int(version[1]), int(version[2])) >= tuple(map(int, wanted.removeprefix(">=").split(".")))


def test_what_is_copied_is_there_and_what_is_ignored_is_not_copied():
    ignored = (ROOT / ".dockerignore").read_text().split()
    for line in of("COPY"):
        *sources, _ = line.split()
        assert all((ROOT / source).exists() and source not in ignored for source in sources), line


def test_it_installs_the_tested_versions_and_ends_as_somebody_without_rights():
    assert any("-c constraints.txt" in line for line in of("RUN"))
    assert of("USER") == ["student"] and LINES.index("USER student") > max(
        i for i, x in enumerate(LINES) if x.startswith("RUN")
    )


@pytest.mark.parametrize("service", ["lab", "train"])
def test_services_start_what_the_image_has_and_keep_notebooks_and_runs(service):
    found = compose("compose.yaml")["services"][service]
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert found["entrypoint"][0] in {"jupyter", *scripts}
    places = dict(volume.split(":") for volume in found["volumes"])
    assert places["./notebooks"] == "/course/notebooks" and places["./runs"] == "/course/runs"


def test_the_lab_listens_on_this_machine_alone_and_keeps_its_token():
    lab = compose("compose.yaml")["services"]["lab"]
    assert all(port.startswith("127.0.0.1:") for port in lab["ports"])
    assert not any("token" in part.lower() or "password" in part.lower() for part in lab["entrypoint"])
    assert lab["environment"] == {"JUPYTER_TOKEN": "${JUPYTER_TOKEN:-}"}  # empty: Jupyter draws one


def test_the_gpu_file_only_changes_services_that_exist_and_arguments_that_the_dockerfile_takes():
    plain, gpu = compose("compose.yaml"), compose("compose.gpu.yaml")
    arguments = {line.split("=")[0] for line in of("ARG")}
    assert gpu["services"].keys() == plain["services"].keys()
    for service in gpu["services"].values():
        assert service["build"]["args"].keys() <= arguments
        (device,) = service["deploy"]["resources"]["reservations"]["devices"]
        assert device["driver"] == "nvidia" and device["capabilities"] == ["gpu"]
