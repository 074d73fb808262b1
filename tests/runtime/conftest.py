from pathlib import Path

import pytest

from samoyeds_gen.runtime import Cache, driver_problem, forget_builds


@pytest.fixture(autouse=True)
def _gpu_or_skip(request: pytest.FixtureRequest) -> None:
    """Skip tests marked gpu, with the reason, where no kernel can be launched."""
    if request.node.get_closest_marker("gpu") and (problem := driver_problem()):
        pytest.skip(f"needs a GPU: {problem}")


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    """An empty compile cache, and an empty in-process memo."""
    forget_builds()
    return Cache(tmp_path / "cache")
