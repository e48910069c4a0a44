"""Make the shipped table of how rare each word is in code: ``make vectors``. The same packages give the same bytes.

The packages come from PyPI and npm, named by version and hash, in Python, JavaScript, TypeScript, Java, Kotlin, Swift,
Objective-C and C++. Of each, the share of pieces of 25 lines that hold a word is counted; the inverse document
frequencies, each between 0 and 1, are averaged over the packages.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from codeforge_ls.index.tokens import tokens
from codeforge_ls.index.wordvectors import FOLDER, RARITY, WORDS, WordVectors

PACKAGES = {
    "networkx==3.6.1": "d47fbf302e7d9cbbb9e2555a0d267983d2aa476bac30e90dfbe5669bd57f3762",
    "litellm==1.106.2": "cb1a2a1e55a4a8350ae2167525dc0d06f59b078cd685fb3e0f5419f02da5420e",
    "react-native@0.76.5": "be687f5995f60ed535b05784fec6356dd1bfc78e371402747c78072edf6ad41c",
    "expo-modules-core@2.1.1": "fec6f1a71824417d7c1ca3f0a34176b8024f50270885c6ecfb454457011f3324",
    "rxjs@7.8.1": "c532167725ab7d085123209156c93cef22f2479cb9c8527060f1cd903aa9d149",
    "cordova-android@13.0.0": "0f5f6800ea1b174763a737459754a954b9d4bc9615c6ac56450d6c3f8ad64d3d",
}  # name and version: sha256
CODE = {
    ".c", ".cpp", ".h", ".hpp", ".java", ".js", ".jsx", ".kt", ".m", ".md", ".mm", ".py", ".rb", ".swift", ".ts",
    ".tsx",
}  # fmt: skip
LINES, LONG_LINE, LARGE = 25, 2_000, 1 << 20
WORD = re.compile(rb"[A-Za-z_][A-Za-z0-9_]*")


def main() -> None:
    """Fetch the packages unless a folder has them, check them, count, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--packages", type=Path, help="a folder that has them; else pip and npm download them"
    )
    parser.add_argument("--target", type=Path, default=FOLDER)
    given = parser.parse_args()
    words = (given.target / WORDS).read_text(encoding="utf-8").split("\n")
    table = WordVectors(words, np.zeros((len(words), 1), np.int8), np.zeros(len(words), np.float32))
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.packages or Path(temporary)
        archives = [_archive(folder, name, digest) for name, digest in PACKAGES.items()]
        rarity = np.mean([_rarity(archive, table) for archive in archives], axis=0)
    packed = np.rint(rarity * 255).astype(np.uint8)
    np.save(given.target / RARITY, packed)
    sys.stdout.write(f"{len(words)} words, sha256 {hashlib.sha256(packed.tobytes()).hexdigest()}\n")


def _archive(folder: Path, package: str, digest: str) -> Path:
    """The file of a package, checked."""
    stem = re.split("==|@", package)
    found = sorted(folder.glob(f"{stem[0].replace('/', '-')}-{stem[1]}*"))
    if not found and "==" in package:
        platform = ["--platform", "manylinux_2_28_x86_64", "--python-version", "3.11", "--only-binary=:all:"]
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", *platform]
        subprocess.run([*pip, "--dest", folder, package], check=True)
    elif not found:
        subprocess.run(
            ["npm", "pack", "--silent", package], cwd=folder, check=True, stdout=subprocess.DEVNULL
        )
    (file,) = sorted(folder.glob(f"{stem[0].replace('/', '-')}-{stem[1]}*"))
    if hashlib.sha256(file.read_bytes()).hexdigest() != digest:
        raise SystemExit(f"{file.name} is not the package of that name that was pinned.")
    return file


def _files(archive: Path) -> Iterator[bytes]:
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as package:
            for name in sorted(package.namelist()):
                if Path(name).suffix in CODE:
                    yield package.read(name)
        return
    with tarfile.open(archive) as package:
        for member in package.getmembers():
            file = package.extractfile(member) if member.isfile() and member.size < LARGE else None
            if file and Path(member.name).suffix in CODE:
                yield file.read()


def _rarity(archive: Path, table: WordVectors) -> np.ndarray:
    """Of each word: its inverse document frequency in a package, 1 where it does not occur."""
    found: Counter[int] = Counter()
    rows: dict[bytes, set[int]] = {}
    pieces = 0
    for data in _files(archive):
        lines = data.split(b"\n")
        if max(map(len, lines)) > LONG_LINE:
            continue
        for start in range(0, len(lines), LINES):
            words = set(WORD.findall(b"\n".join(lines[start : start + LINES])))
            for word in words - rows.keys():
                rows[word] = {table.row(token) for token in tokens(word.decode())} - {-1}
            found.update(set().union(*(rows[word] for word in words)))
            pieces += 1
    counts = np.array([found[row] for row in range(len(table))])
    return np.log1p(pieces / (1 + counts)) / np.log1p(pieces)


if __name__ == "__main__":
    main()
