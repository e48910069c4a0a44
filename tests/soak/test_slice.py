"""A slice of every long proof with a seed of its own each time; ``make soak`` runs them whole."""

from __future__ import annotations

import secrets
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.timeout(200)
@pytest.mark.parametrize("proof", ["kills", "checkpoints", "fuzz", "endurance"])
def test_a_slice_holds(proof: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "report.md"
    seed = secrets.randbelow(1_000_000)
    with capsys.disabled():
        print(f"\nslice of {proof}: seed {seed}")
    command = [sys.executable, "-m", "tests.soak", "--slice", "--only", proof, "--seed", str(seed)]
    command += ["--report", str(report)]
    done = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, errors="replace", timeout=180, check=False
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-2000:]}"
    assert report.read_text().startswith("# Soak report\n\nAll held.")
