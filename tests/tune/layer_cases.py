"""Invented layers, contenders and rigs for comparisons of layers of experts."""

from samoyeds_gen.tune.contender import Failure
from samoyeds_gen.tune.layers import LayerConfig
from samoyeds_gen.tune.layers.rows import LayerContender
from samoyeds_gen.tune.timing import Timed

TINY = LayerConfig("tiny", 64, 48, 4, 2)
SMALL = LayerConfig("small", 32, 32, 3, 1)


def contender(name, eager, graph=None, **options):
    """A contender whose runs take the given microseconds."""
    given = {
        "replay": "graph" if graph else "host",
        "weight_bytes": 1000,
        "held_bytes": 2000,
        "peak_bytes": 300,
        "host_us": 12.0,
        "worst": 0.5,
        "relative": 0.004,
        **options,
    }
    timed = None if graph is None else Timed(lambda turn: graph)
    return LayerContender(name=name, eager=Timed(lambda turn: eager), graph=timed, **given)


def usual(case):
    return [
        contender("grouped_mm", 100.0, 110.0, held_bytes=case.config.dense_bytes),
        Failure("hf_batched_mm", "left out, since it would copy 90 GB of weights"),
        contender("hf_eager", 500.0),
        contender("ours (1,2,128)", 80.0, 40.0, format="1,2,128", schedules="a + b"),
    ]


class InventedLayerRig:
    """A GPU on which everybody takes the time that they are given."""

    def __init__(self, at=usual):
        self.at = at
        self.log = []

    def prepare(self, config):
        self.log.append(f"prepare {config.name}")

    def contenders(self, case):
        self.log.append(f"check {case}")
        return self.at(case)

    def sample(self, run, settle, timed):
        return run(0)

    def release(self):
        self.log.append("release")
