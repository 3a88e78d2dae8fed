"""The container files hang together with the repository; no engine is needed, and none is tried."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "Dockerfile").read_text().replace("\\\n", "")
LINES = [line for line in TEXT.splitlines() if line and not line.startswith("#")]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def of(instruction):
    return [line.split(maxsplit=1)[1] for line in LINES if line.startswith(instruction + " ")]


def env():
    return dict(pair.split("=", 1) for line in of("ENV") for pair in line.split())


def compose(name):
    return yaml.safe_load((ROOT / name).read_text())


def filled(text, **given):
    """What compose makes of ${NAME:-default}."""
    return re.sub(r"\$\{(\w+):-([^}]*)\}", lambda match: given.get(match[1]) or match[2], text)


def places(service, **given):
    """{folder in the container: (what is mounted there, read-only or not)}"""
    volumes = (
        filled(volume, **given).split(":")
        for volume in compose("compose.yaml")["services"][service]["volumes"]
    )
    return {target: (source, bool(mode)) for source, target, *mode in volumes}


def test_the_base_image_is_pinned_and_its_python_is_one_the_course_admits():
    (base,) = of("FROM")
    version = re.fullmatch(r"python:(\d+)\.(\d+)\.\d+-slim-\w+", base)
    wanted = PROJECT["project"]["requires-python"]
    assert version and (int(version[1]), int(version[2])) >= tuple(
        map(int, wanted.removeprefix(">=").split("."))
    )


def test_what_is_copied_is_there_and_what_is_ignored_is_not_copied():
    ignored = (ROOT / ".dockerignore").read_text().split()
    for line in of("COPY"):
        *sources, _ = [word for word in line.split() if not word.startswith("--")]
        assert sources and all(
            (ROOT / source).exists() and source not in ignored for source in sources
        ), line


@pytest.mark.skipif(os.name == "nt", reason="runs a line of the Dockerfile in sh")
def test_what_is_needed_is_installed_in_the_tested_versions_before_the_code_comes(tmp_path):
    """An edited line of code must not fetch torch again. The RUN line itself is run here, with a pip that only tells."""
    (needs,) = [
        i for i, line in enumerate(LINES) if line.startswith("RUN") and "-c constraints.txt" in line
    ]
    before = {
        name for line in LINES[:needs] if line.startswith("COPY") for name in line.split()[1:-1]
    }
    assert before == {"pyproject.toml", "constraints.txt"}
    for name in before:
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "python").symlink_to(sys.executable)
    (tools / "pip").write_text('#!/bin/sh\necho "$@"\nfor last; do :; done\ncat "$last"\n')
    (tools / "pip").chmod(0o755)
    line = LINES[needs].removeprefix("RUN ")
    where = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "TORCH_INDEX": "an-index"}
    done = subprocess.run(
        ["sh", "-ec", line], cwd=tmp_path, env=where, capture_output=True, text=True, check=True
    )
    told, *asked = done.stdout.splitlines()
    assert (
        told.startswith("install ")
        and "--extra-index-url an-index" in told
        and "-c constraints.txt" in told
    )
    project = PROJECT["project"]
    wanted = [
        *PROJECT["build-system"]["requires"],
        *project["dependencies"],
        *project["optional-dependencies"]["lab"],
    ]
    assert asked == wanted


def test_the_course_itself_is_installed_from_its_folder_and_fetches_nothing():
    (install,) = [i for i, line in enumerate(LINES) if line.startswith("RUN pip")]
    assert LINES[install].endswith(" -e .") and {"--no-deps", "--no-build-isolation"} <= {
        *LINES[install].split()
    }
    copied = " ".join(line for line in LINES[:install] if line.startswith("COPY")).split()
    assert {"stn_utils", PROJECT["project"]["readme"]} <= {*copied}


def test_it_ends_as_somebody_without_rights_whom_a_host_can_name():
    (user,) = of("USER")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user) and LINES.index(f"USER {user}") > LINES.index(
        f"RUN {of('RUN')[-1]}"
    )
    number, group = user.split(":")
    assert (
        f"--gid {group} student" in of("RUN")[0]
        and f"--uid {number} --gid {group} student" in of("RUN")[0]
    )
    assert all(f"--chown={user}" in line for line in of("COPY")[1:])
    for service in compose("compose.yaml")["services"].values():
        assert filled(service["user"]) == user
        assert filled(service["user"], STN_USER="1234:1234") == "1234:1234"


def test_home_and_caches_are_set_for_a_user_without_an_account_who_may_write_there():
    last, home = of("RUN")[-1], env()["HOME"]
    assert home == "/home/student" and env()["XDG_CACHE_HOME"].startswith(home)
    writable = last.split("chmod 1777 ")[1].split()
    assert {home, env()["XDG_CACHE_HOME"], "runs"} <= {*writable}
    assert env()["MPLCONFIGDIR"].startswith("/tmp/")


@pytest.mark.parametrize("service", ["lab", "train"])
def test_services_start_what_the_image_has_on_the_folder_that_lies_here(service):
    found = compose("compose.yaml")["services"][service]
    assert found["entrypoint"][0] in {"jupyter", *PROJECT["project"]["scripts"]}
    assert found["init"] is True
    there = places(service)
    assert there[of("WORKDIR")[0]] == (
        ".",
        False,
    )  # code, plans, chapters and runs: none of them from the image
    volume, read_only = there[env()["XDG_CACHE_HOME"]]
    assert volume in compose("compose.yaml")["volumes"] and not read_only


@pytest.mark.parametrize("service", ["lab", "train"])
def test_a_folder_of_data_can_be_handed_over_and_need_not_be(service):
    assert places(service, STN_DATA="/media/stick")[env()["STN_DATA"]] == ("/media/stick", True)
    source, read_only = places(service)[env()["STN_DATA"]]
    assert (
        read_only and (ROOT / source).is_dir()
    )  # an engine would make a folder that is absent, and give it to root


def test_the_lab_listens_on_this_machine_alone_and_keeps_its_token():
    lab = compose("compose.yaml")["services"]["lab"]
    assert all(port.startswith("127.0.0.1:") for port in lab["ports"])
    assert not any(
        "token" in part.lower() or "password" in part.lower() for part in lab["entrypoint"]
    )
    assert lab["environment"] == {"JUPYTER_TOKEN": "${JUPYTER_TOKEN:-}"}  # empty: Jupyter draws one


def test_the_gpu_file_only_changes_services_that_exist_and_arguments_that_the_dockerfile_takes():
    plain, gpu = compose("compose.yaml"), compose("compose.gpu.yaml")
    arguments = {line.split("=")[0] for line in of("ARG")}
    assert gpu["services"].keys() == plain["services"].keys()
    for service in gpu["services"].values():
        assert service["build"]["args"].keys() <= arguments
        (device,) = service["deploy"]["resources"]["reservations"]["devices"]
        assert device["driver"] == "nvidia" and device["capabilities"] == ["gpu"]


@pytest.mark.parametrize("name", ["COMMANDS.md", ".github/workflows/test.yml"])
def test_commands_that_are_shown_name_files_and_services_that_exist(name):
    commands = re.findall(
        r"docker compose ((?:-f \S+ )*)(?:up|run|build)((?: --[\w-]+)*) (\w+)",
        (ROOT / name).read_text(),
    )
    assert commands
    for files, _, service in commands:
        assert service in compose("compose.yaml")["services"]
        assert all((ROOT / file).exists() for file in files.split()[1::2])
