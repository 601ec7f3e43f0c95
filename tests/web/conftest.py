"""The browser tests run against the same ComfyUI versions as the host tests."""

from ..host.conftest import pytest_generate_tests, server

__all__ = ["pytest_generate_tests", "server"]
