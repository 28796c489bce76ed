"""What the tests of this folder share."""

import pytest


@pytest.fixture(autouse=True, scope="module")
def no_pause_of_the_inventory():
    """It looks twice at files that are as new as those of a test; tests/steps waits for it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tomopipe.steps.inventory._BETWEEN_LOOKS_S", 0.0)
        yield
