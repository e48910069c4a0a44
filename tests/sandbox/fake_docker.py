"""A program that takes docker's command line, writes down each call and behaves: containers are files in a folder.

``exec`` runs the command on this machine, which is why it takes the last word and never the script around it, and in
the folder that is mounted where the command expects to be.
``DOCKER_FAKE`` names the folder; a file ``broken`` in it holds what the engine says in place of an answer.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

FOLDER = Path(os.environ["DOCKER_FAKE"])
VALUED = {
    "--name", "--label", "--tmpfs", "--security-opt", "--cap-drop", "--stop-timeout", "--user", "--env", "--workdir",
    "--network", "--memory", "--memory-swap", "--pids-limit", "--cpus", "--mount", "--entrypoint", "--pull",
    "--filter", "--format",
}  # fmt: skip
MOUNT = re.compile(r"type=bind,source=(?P<source>[^,]+),target=(?P<target>[^,]+)")
PLAIN = {"--detach", "--init", "--read-only", "--all", "--quiet", "--force"}


def parsed(words: list[str]) -> tuple[dict[str, list[str]], list[str]]:
    """Options with their values, and the words after them; an option that docker does not know ends the program."""
    options: dict[str, list[str]] = {}
    at = 0
    while at < len(words) and words[at].startswith("--"):
        if words[at] in VALUED:
            options.setdefault(words[at], []).append(words[at + 1])
            at += 2
        elif words[at] in PLAIN:
            options.setdefault(words[at], []).append("")
            at += 1
        else:
            sys.exit(f"unknown flag: {words[at]}")
    return options, words[at:]


def containers() -> dict[str, dict[str, list[str]]]:
    return {path.stem: json.loads(path.read_text()) for path in FOLDER.glob("*.container")}


def main() -> None:
    verb, words = sys.argv[1], sys.argv[2:]
    with (FOLDER / "calls").open("a") as log:
        log.write(json.dumps([verb, *words]) + "\n")
    if (FOLDER / "broken").exists():
        sys.exit((FOLDER / "broken").read_text())
    if verb == "image":
        verb, words = "image inspect", words[1:]
    options, rest = parsed(words)
    if verb == "version":
        print("28.0.0")
    elif verb == "image inspect":
        sys.exit(0 if rest == ["there:1"] else f"Error: No such image: {rest[0]}")
    elif verb == "run":
        assert rest[0] == "there:1", rest
        (FOLDER / f"{options['--name'][0]}.container").write_text(json.dumps(options))
        print("0123456789ab")
    elif verb == "ps":
        wanted = {word.removeprefix("label=") for word in options["--filter"]}
        for name, made in containers().items():
            if wanted <= set(made["--label"]):
                print(name)
    elif verb == "rm":
        for name in rest:
            (FOLDER / f"{name}.container").unlink(missing_ok=True)
    elif verb == "inspect":
        known = rest[0] in containers()
        print(str(known).lower() if "Running" in options["--format"][0] else "true")
        sys.exit(0 if known else 1)
    elif verb == "exec":
        if rest[1] == "cat":
            print("low 0\noom_kill 1")
            return
        if rest[0] not in containers():
            sys.exit(f"Error response from daemon: No such container: {rest[0]}")
        env = {name: os.environ[name] for name in options.get("--env", [])} | {"PATH": os.environ["PATH"]}
        made = containers()[rest[0]]
        mounts = dict(MOUNT.search(mount).group("target", "source") for mount in made["--mount"])
        cwd = mounts[options["--workdir"][0]]
        done = subprocess.run(["sh", "-c", rest[-1]], cwd=cwd, env=env, check=False)
        sys.exit(done.returncode if done.returncode >= 0 else 128 - done.returncode)
    else:
        sys.exit(f"docker: {verb!r} is not a docker command")


main()
