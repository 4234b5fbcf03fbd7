import sys
import urllib.request
from pathlib import Path
from urllib.error import URLError

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def offline(monkeypatch):
    """Whoever wants a connection gets none."""

    def refuse(*_, **__):
        raise URLError(OSError(-2, "Name or service not known"))

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
