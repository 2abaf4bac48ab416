"""What all tests share: the same random examples in every run, and folders of their own for hubs."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings

settings.register_profile("nbq", derandomize=True, deadline=None, database=None)
settings.load_profile("nbq")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a shell's background job; children inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def own_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep tests away from the hubs and data of the user who runs them."""
    folder = tmp_path_factory.mktemp("nbq")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NBQ_DATA_DIR", str(folder / "data"))
        patch.setenv("NBQ_RUNTIME_DIR", str(folder / "run"))
        patch.delenv("NBQ_HUB", raising=False)
        yield
