"""Fixtures of the method's tests."""

import pytest
from method.made import tiny_backbone


@pytest.fixture
def backbone():
    return tiny_backbone()
