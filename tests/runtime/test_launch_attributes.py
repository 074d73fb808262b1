"""What launches of a kernel tell the driver beside grid and block; needs no GPU."""

from types import SimpleNamespace

import pytest

driver = pytest.importorskip("cuda.bindings.driver", reason="cuda-bindings is not installed")

from samoyeds_gen.runtime import launch  # noqa: E402

CLUSTER = driver.CUlaunchAttributeID.CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION
EARLY = driver.CUlaunchAttributeID.CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION


def attributes_of(cluster, dependent, monkeypatch):
    """Names and values of a frame's attributes, as the driver finds them in memory."""
    monkeypatch.setattr(launch, "Arguments", lambda signature: None)
    kernel = SimpleNamespace(
        shared_bytes=1024, cluster=cluster, dependent=dependent, signature=None
    )
    config = launch._Frame(kernel).config
    assert config.sharedMemBytes == 1024
    assert config.numAttrs == len(config.attrs)
    values = {
        CLUSTER: lambda value: (value.clusterDim.x, value.clusterDim.y, value.clusterDim.z),
        EARLY: lambda value: value.programmaticStreamSerializationAllowed,
    }
    return {each.id: values[each.id](each.value) for each in config.attrs}


@pytest.mark.parametrize("dependent", [False, True])
@pytest.mark.parametrize("cluster", [(1, 1, 1), (2, 1, 1), (4, 1, 1)])
def test_clusters_and_early_launches_are_attributes(cluster, dependent, monkeypatch):
    wanted = {CLUSTER: cluster} if cluster != (1, 1, 1) else {}
    wanted |= {EARLY: 1} if dependent else {}
    assert attributes_of(cluster, dependent, monkeypatch) == wanted
