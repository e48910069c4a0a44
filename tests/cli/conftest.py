"""The folders of a test are those of the daemon's."""

from tests.daemon.conftest import place

__all__ = ["place"]
