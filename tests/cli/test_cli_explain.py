"""`explain` prints schedule, plan, graph, resources and counters in order, and writes pictures."""

import xml.etree.ElementTree as ET

import pytest

from samoyeds_gen.errors import CompileError
from samoyeds_gen.runtime import disassembly

TITLES = [
    "schedule ---",
    "plan ---",
    "dependences of the loop (mermaid) ---",
    "resources ---",
    "simulator counters of one CTA at ",
    "pictures ---",
]


def test_sections_come_in_reading_order(cli, tmp_path):
    ran = cli("explain", "ssmm_sm80", "-o", "pictures", "--source")
    assert (ran.code, ran.err) == (0, "")
    places = [ran.out.index(title) for title in TITLES]
    assert places == sorted(places)
    for line in (
        "stationary fold=exchange, metadata=registers",
        "kernel ssmm_sm80_1_2_64_bf16",
        "flowchart TD",
        "constexpr int kTileM = ",
        "shared wavefronts, ldmatrix",
        "opcode mma.sp",
        "global sectors, cp.async",
    ):
        assert line in ran.out
    for kind in ("shared", "pipeline"):
        path = tmp_path / "pictures" / f"ssmm_sm80_1_2_64_bf16.{kind}.svg"
        assert f"wrote {path.relative_to(tmp_path)}" in ran.out
        assert ET.parse(path).getroot().tag.endswith("svg")


def test_sass_is_the_disassembly_or_says_what_to_install(cli):
    ran = cli("explain", "ssmm_sm80", "--sass")
    try:
        disassembly.find_tool()
    except CompileError:
        assert (ran.code, ran.out) == (1, "")
        assert ran.err == (
            "error: neither nvdisasm nor cuobjdump is installed; pip install "
            "samoyeds-gen[inspect]\n"
        )
    else:
        assert "HMMA.SP" in ran.out


def test_every_format_can_be_explained(cli):
    for text in ("1,1,16", "1,2,16", "8,16,128"):
        assert cli("explain", "ssmm_sm80", "-f", text).code == 0


@pytest.mark.parametrize("argument", ["--version", "--help"])
def test_the_program_introduces_itself(cli, argument):
    ran = cli(argument)
    assert ran.code == 0
    assert "samoyeds-gen" in ran.out
