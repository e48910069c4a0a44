"""Where things are: the folders of the user and of one workspace."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from codeforge_ls.model.errors import Unavailable

ID_DIGITS = 12


def workspace_id(root: Path) -> str:
    """The first 12 hex digits of the SHA-256 of the real path: the same workspace through any symlink."""
    return hashlib.sha256(os.fsencode(os.path.realpath(root))).hexdigest()[:ID_DIGITS]


def state_dir(root: Path, environ: Mapping[str, str] | None = None) -> Path:
    """The state folder of a workspace, made with mode 0700. Unavailable: cannot be made, or is not ours."""
    base = _xdg("XDG_STATE_HOME", environ)
    if base is None:
        import platformdirs

        base = Path(platformdirs.user_state_dir())
    folder = base / "codeforge" / workspace_id(root)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.lstat()
        if status.st_uid != os.getuid() or not folder.is_dir():
            raise Unavailable(
                f"The state folder {folder} belongs to someone else.", hint="Remove it or set XDG_STATE_HOME."
            )
        if status.st_mode & 0o077:
            folder.chmod(0o700)
    except OSError as error:
        raise Unavailable(
            f"The state folder {folder} cannot be made: {error.strerror or error}.",
            hint="Set XDG_STATE_HOME to a folder you can write.",
        ) from error
    return folder


def user_config_dir(environ: Mapping[str, str] | None = None) -> Path:
    """``$XDG_CONFIG_HOME/codeforge``, else the platform's place; it may not exist."""
    base = _xdg("XDG_CONFIG_HOME", environ)
    if base is None:
        import platformdirs

        base = Path(platformdirs.user_config_dir())
    return base / "codeforge"


def policies_dir(configured: str, environ: Mapping[str, str] | None = None) -> Path:
    """The folder of the user's own policy profiles: ``policy.directory``, else the one beside the settings."""
    return Path(configured) if configured else user_config_dir(environ) / "policies"


def workspace_config_dir(root: Path, environ: Mapping[str, str] | None = None) -> Path:
    """The folder of what the user decided about one workspace: what is allowed always, which file is trusted.

    Outside the tree, so that neither a repository nor an agent writes it; it may not exist.
    """
    return user_config_dir(environ) / "workspaces" / workspace_id(root)


def managed_policies_dir() -> Path:
    """The folder of the machine's administrator. Not to be moved by the environment, which whoever starts us sets."""
    return Path("/etc/codeforge/policies")


def config_files(
    root: Path, config_path: Path | None = None, environ: Mapping[str, str] | None = None
) -> tuple[Path, Path]:
    """The user's file (or the one ``--config`` names) and the workspace's: what a watcher looks at."""
    user = config_path if config_path is not None else user_config_dir(environ) / "config.yaml"
    return user, root / ".codeforge" / "config.yaml"


def _xdg(name: str, environ: Mapping[str, str] | None) -> Path | None:
    value = (os.environ if environ is None else environ).get(name, "")
    # The XDG specification: a relative path is invalid and ignored.
    return Path(value) if value and Path(value).is_absolute() else None
