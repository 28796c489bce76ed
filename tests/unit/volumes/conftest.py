"""Previews of volumes that are small enough for a test."""

import pytest

from tomopipe.volumes import preview


@pytest.fixture
def small(monkeypatch):
    """Small volumes have a preview, too; of short chunks."""
    monkeypatch.setattr(preview, "_SMALLEST_BYTES", 1)
    monkeypatch.setattr(preview, "_SHARE", 0.1)
    monkeypatch.setattr(preview, "_CHUNK", (3, 16, 16))
