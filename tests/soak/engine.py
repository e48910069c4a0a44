"""A container engine of our own: dockerd on a socket in a temporary folder, and an image made without a registry."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
import tempfile
import time
from pathlib import Path

IMAGE = "codeforge-soak:busybox"
APPLETS = ("sh", "sleep", "cat", "echo", "ls", "kill", "touch", "mkdir", "rm", "yes", "id", "true", "false", "head",
           "env", "seq", "setsid", "wc", "dd", "wget", "pwd", "ps", "tail", "grep")  # fmt: skip


class Engine:
    """A running dockerd. Raises ``RuntimeError`` with its last words when it does not come up."""

    def __init__(self) -> None:
        self.base = Path(tempfile.mkdtemp(prefix="cfd", dir="/tmp"))
        self.socket = f"unix://{self.base}/s"
        program, busybox = shutil.which("dockerd"), shutil.which("busybox")
        if program is None or busybox is None:
            raise RuntimeError("dockerd and busybox are needed: apt-get install docker.io busybox-static")
        self._log = (self.base / "log").open("wb")
        self._process = subprocess.Popen(
            [program, "--data-root", f"{self.base}/data", "--exec-root", f"{self.base}/exec",
             "--host", self.socket, "--pidfile", f"{self.base}/pid", "--iptables=false", "--ip6tables=false",
             "--bridge=none"],
            stdout=self._log, stderr=self._log, start_new_session=True,
        )  # fmt: skip
        try:
            self._wait()
            self._import_image(Path(busybox))
        except BaseException:
            self.close()
            raise

    def docker(self, *words: str, data: bytes = b"") -> str:
        """One call of the command line."""
        done = subprocess.run(
            ["docker", *words], input=data, capture_output=True, check=True, timeout=120,
            env=os.environ | {"DOCKER_HOST": self.socket},
        )  # fmt: skip
        return done.stdout.decode()

    def _wait(self) -> None:
        end = time.monotonic() + 60
        while True:
            try:
                self.docker("version")
                return
            except subprocess.CalledProcessError as error:
                if self._process.poll() is not None or time.monotonic() > end:
                    words = (self.base / "log").read_text(errors="replace")[-1500:]
                    raise RuntimeError(f"dockerd did not come up: {words}") from error
                time.sleep(0.2)

    def _import_image(self, busybox: Path) -> None:
        raw = io.BytesIO()
        with tarfile.open(fileobj=raw, mode="w") as tar:
            for folder in ("bin", "tmp", "etc", "proc", "dev", "sys"):
                entry = tarfile.TarInfo(folder)
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(entry)
            tar.add(busybox, "bin/busybox")
            for name in APPLETS:
                entry = tarfile.TarInfo(f"bin/{name}")
                entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
                tar.addfile(entry)
        self.docker("import", "-", IMAGE, data=raw.getvalue())

    def close(self) -> None:
        """End the daemon and remove what it had."""
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()
        for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
            if (place := line.split()[1]).startswith(f"{self.base}/"):
                subprocess.run(["umount", "--lazy", place], check=False)
        shutil.rmtree(self.base, ignore_errors=True)
