"""Clusters, register budgets, and the Hopper rows that only need to be accepted."""

from pathlib import Path

import numpy as np
import pytest
from hopper_toolchain import PRELUDE
from simulator_toolchain import HEADER, launch_ptx, ptx, written

from samoyeds_gen.errors import LaunchError
from samoyeds_gen.simulator import Pointer, SimulationFault, parse, run

CLUSTER = Path(__file__).with_name("hopper_cluster.cu").read_text()


def share(*edits, grid=4, steps=3, **options):
    """Run the cluster fixture; whether every CTA saw both halves of every step."""
    source = CLUSTER
    for old, new in edits:
        assert source.count(old) == 1, old
        source = source.replace(old, new)
    data = np.random.default_rng(0).integers(0, 2**31, (grid // 2, steps, 128)).astype(np.int32)
    out = np.zeros((grid, steps, 128), np.int32)
    run(
        parse(ptx(PRELUDE + source, "sm_90a")),
        "share",
        grid=(grid, 1, 1),
        block=(32, 1, 1),
        arguments=[Pointer(data, "in"), written(out), np.int32(steps)],
        **options,
    )
    return np.array_equal(out, data.repeat(2, axis=0))


@pytest.mark.parametrize("grid", [2, 6])
def test_multicast_reaches_both(grid):
    assert share(grid=grid)


def test_batches_hold_whole_clusters(monkeypatch):
    monkeypatch.setattr("samoyeds_gen.simulator.launch.LANES_PER_BATCH", 96)
    assert share(grid=6)


MEETING = "  cluster_arrive();\n  cluster_wait();\n"
FULL = "    barrier_wait(&full, step & 1);\n"
RELEASE = "    if (t < 2) remote_arrive(of_rank(&empty, t));\n"
BEGIN, END = f"{MEETING}  for", f"  }}\n{MEETING}"
SEEDED = {
    "no meeting after the mbarriers": ("race", [(BEGIN, "  __syncthreads();\n  for")]),
    "arrives without waiting": (
        "race",
        [(BEGIN, "  cluster_arrive();\n  for"), (END, "  }\n  cluster_wait();\n")],
    ),
    "released to itself only": ("deadlock", [("if (t < 2) remote", "if (t == rank) remote")]),
    "released for the other one": (
        "race",
        [
            ("barrier_init(&empty, 2)", "barrier_init(&empty, 1)"),
            ("if (t < 2) remote", "if (t == rank) remote"),
        ],
    ),
    "released before it is read": (
        "race",
        [
            (FULL, FULL + RELEASE),
            (f"    __syncwarp();\n{RELEASE}", ""),
        ],
    ),
    "mask of a CTA that is not there": ("out of bounds", [("&full, 3)", "&full, 7)")]),
    "mask of one": ("deadlock", [("&full, 3)", "&full, 1 << rank)")]),
    "rank that is not there": ("out of bounds", [("if (t < 2) remote", "if (t < 3) remote")]),
    "expects its own half": ("read before arrival", [("(&full, 2 * kHalf)", "(&full, kHalf)")]),
    "leaves while the other one may arrive": ("race", [(f"{END}}}", "  }\n}")]),
    "one thread does not meet": (
        "deadlock",
        [
            (
                BEGIN,
                "  cluster_arrive();\n  if (rank) { cluster_wait(); cluster_arrive(); }\n"
                "  cluster_wait();\n  for",
            )
        ],
    ),
    "meets twice": ("divergent barrier", [(BEGIN, f"  cluster_arrive();\n{BEGIN}")]),
}


@pytest.mark.parametrize("name", SEEDED)
def test_seeded_faults_of_clusters(name):
    kind, edits = SEEDED[name]
    with pytest.raises(SimulationFault) as caught:
        share(*edits)
    assert caught.value.kind == kind


def test_a_grid_that_clusters_do_not_fill():
    with pytest.raises(LaunchError, match="clusters of 2 CTAs in a grid of"):
        share(grid=3)


def test_a_kernel_without_a_cluster_is_its_own():
    body = """mapa.shared::cluster.u32 %r0, tile, 0; getctarank.shared::cluster.u32 %r1, %r0;
    mov.u32 %r2, %cluster_nctarank; mov.u32 %r3, %cluster_ctarank; mov.u32 %r4, %clusterid.x;
    barrier.cluster.arrive.relaxed; barrier.cluster.wait;"""
    names = ["%r1", "%r2", "%r3", "%r4"]
    out = np.zeros(4, np.uint32)
    launch_ptx(kernel(body, names), "k", written(out), threads=32, grid=1)
    assert out.tolist() == [0, 1, 0, 0]


def kernel(body, names=()):
    stores = "".join(f"st.global.b32 [%p+{4 * i}], {name};" for i, name in enumerate(names))
    return (
        HEADER.format(target="sm_90a")
        + ".visible .entry k(.param .u64 k_0) DIRECTIVES {\n.shared .align 16 .b8 tile[16];\n"
        + ".reg .b32 %r<8>; .reg .pred %q, %e; .reg .b64 %p; .reg .b32 %t;\n"
        + f"mov.u32 %t, %tid.x; ld.param.u64 %p, [k_0]; setp.eq.u32 %q, %t, 0;\n{body}\n"
        + f"@!%q bra END; {stores} END: ret; }}"
    ).replace("DIRECTIVES", "")


def test_rows_without_an_effect():
    body = """griddepcontrol.wait; griddepcontrol.launch_dependents; prefetch.tensormap [%p];
    cp.async.bulk.prefetch.L2.global [%p], 16; fence.proxy.async; fence.proxy.async.global;
    fence.proxy.async.shared::cta; fence.mbarrier_init.release.cluster; fence.acq_rel.cluster;
    mov.u32 %r0, 3;"""
    out = np.zeros(1, np.uint32)
    report = launch_ptx(kernel(body, ["%r0"]), "k", written(out))
    assert out[0] == 3
    assert report.counters.opcodes["fence.proxy.async"] == 2


@pytest.mark.parametrize(
    "access",
    ["ld.global.b32 %r0, [%p];", "st.global.b32 [%p], %r0;", "atom.global.add.u32 %r1, [%p], 1;"],
)
@pytest.mark.parametrize("waits", ["", "@%q griddepcontrol.wait;"])
def test_memory_belongs_to_the_launch_before_until_it_is_waited_for(access, waits):
    """Each lane waits for itself; without a wait there is nothing that a kernel begins beside."""
    before = f"mov.u32 %r0, 1; {waits} {access} griddepcontrol.wait;"
    with pytest.raises(SimulationFault, match=r"before griddepcontrol\.wait") as caught:
        launch_ptx(kernel(before), "k", written(np.zeros(1, np.uint32)))
    assert (caught.value.kind, caught.value.thread) == ("race", 1 if waits else 0)
    after = before.replace("griddepcontrol.wait;", "").replace("@%q", "")
    for body in (after, f"griddepcontrol.wait; {after}"):
        report = launch_ptx(kernel(body), "k", written(np.zeros(1, np.uint32)), races=False)
        assert report.counters.opcodes


def test_elect_chooses_the_first_member():
    body = "elect.sync %r0|%e, 0xfffffff0; selp.u32 %r1, 1, 0, %e; mov.u32 %r2, %r1;"
    text = (
        kernel(body)
        .replace("@!%q bra END;", "")
        .replace(" END: ret;", "mad.wide.u32 %p, %t, 4, %p; st.global.b32 [%p], %r1; ret;")
    )
    out = np.zeros(32, np.uint32)
    launch_ptx(text, "k", written(out))
    assert np.flatnonzero(out).tolist() == [4]


def budget(text, threads, directives=""):
    source = kernel(text, ["%t"]).replace(
        "k(.param .u64 k_0) ", f"k(.param .u64 k_0) {directives} "
    )
    launch_ptx(source, "k", written(np.zeros(1, np.uint32)), threads=threads)


TAKE = "@!{guard} bra OTHER; setmaxnreg.inc.sync.aligned.u32 {high}; bra DONE;"
GIVE = "OTHER: setmaxnreg.dec.sync.aligned.u32 {low}; DONE:"
LAST_GROUP = "setp.ge.u32 %e, %t, {first};"


def hand_over(threads, low, high, directives=""):
    """The last warpgroup goes down to `low`, the others up to `high`."""
    text = "setp.lt.u32 %e, %t, {first};" + TAKE + GIVE
    budget(text.format(first=threads - 128, guard="%e", high=high, low=low), threads, directives)


@pytest.mark.parametrize(
    ("threads", "low", "high", "directives"),
    [
        (384, 24, 240, ""),
        (512, 32, 160, ""),
        (256, 24, 256, ""),
        (256, 40, 88, ".maxnreg 64"),
    ],
)
def test_budgets_that_fit(threads, low, high, directives):
    hand_over(threads, low, high, directives)


@pytest.mark.parametrize(
    ("threads", "low", "high", "directives", "kind"),
    [
        (384, 32, 240, "", "deadlock"),
        (384, 24, 248, "", "deadlock"),
        (256, 40, 96, ".maxnreg 64", "deadlock"),
        (384, 176, 240, "", "divergent barrier"),
        (384, 24, 160, "", "divergent barrier"),
        (384, 24, 250, "", "unknown opcode"),
        (384, 16, 240, "", "unknown opcode"),
    ],
)
def test_budgets_that_do_not_fit(threads, low, high, directives, kind):
    with pytest.raises(SimulationFault) as caught:
        hand_over(threads, low, high, directives)
    assert caught.value.kind == kind
    if kind == "deadlock":
        assert "registers, and the CTA has" in str(caught.value)


def test_registers_are_handed_over_by_whole_warpgroups():
    text = "setp.lt.u32 %e, %t, 96; @!%e bra DONE; setmaxnreg.dec.sync.aligned.u32 24; DONE:"
    with pytest.raises(SimulationFault, match="only 3 warps of a warpgroup"):
        budget(text, 128)
    with pytest.raises(SimulationFault, match="not one of four"):
        budget("setmaxnreg.dec.sync.aligned.u32 24;", 160)
