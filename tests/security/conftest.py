"""The grounds of the end-to-end tests, under attack."""

from tests.e2e.conftest import fresh, ground

__all__ = ["fresh", "ground"]
