"""Every overlay, built once."""

import pytest

from k8s.check import overlay as overlays

NAMES = overlays.names()


@pytest.fixture(scope="session")
def built():
    """All overlays by name. Read only: `copy.deepcopy` what is to be changed."""
    return {name: overlays.build(name) for name in NAMES}
