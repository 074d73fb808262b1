"""Every refusal is one line on stderr and exit code 1; a mistyped command line is exit code 2."""

import pytest

from samoyeds_gen.runtime import driver_present

SHIPPED = "ssmm_sm80"

REFUSED = [
    (
        ("compile", "nothing"),
        "schedule-file: no schedule file 'nothing'; give the path of a .py or .json file, or one "
        "of the shipped names ",
    ),
    (
        ("compile", SHIPPED, "--format", "1,2"),
        "format '1,2' is not three integers n,m,v; write it as 1,2,64",
    ),
    (
        ("compile", SHIPPED, "--format", "3,2,64"),
        "format 3,2,64 keeps 3 of 2 sub-rows, but 1 <= n <= m <= 16 is required; choose n and m "
        "in that range, for example 1,2,64",
    ),
    (
        ("compile", SHIPPED, "--dtype", "int8"),
        "dtype: dtype 'int8' is not one of float16, bfloat16; use one of float16, bfloat16",
    ),
    (
        ("compile", SHIPPED, "--dtype", "float32"),
        "dtype: dtype 'float32' is not one of float16, bfloat16; use one of float16, bfloat16",
    ),
    (
        ("compile", SHIPPED, "--target", "sm_75"),
        "target-known: target 'sm_75' is not one of sm_80, sm_86, sm_89, sm_90a, sm_100a, sm_120a; "
        "use one of ",
    ),
    (
        ("run", SHIPPED, "--shape", "1,2"),
        "shape '1,2' is not three positive integers m,k,n; write it as 256,512,64",
    ),
    (
        ("run", SHIPPED, "--shape", "0,2,3"),
        "shape '0,2,3' is not three positive integers m,k,n; write it as 256,512,64",
    ),
    (
        ("run", SHIPPED, "--shape", "8,8,8", "--tokens", "0"),
        "tokens=0 is not positive; select from at least one",
    ),
    (
        ("new", "two words"),
        "schedule-file: 'two words' is not a Python name; use letters, digits and underscores, "
        "not starting with a digit",
    ),
    (("new", "class"), "schedule-file: 'class' is not a Python name; use letters, "),
    (("new", "missing/directory/name"), "missing/directory/name.py: No such file or directory"),
    (("emit", "nothing"), "schedule-file: no schedule file 'nothing'; "),
    (("explain", "nothing"), "schedule-file: no schedule file 'nothing'; "),
    (("check", "nothing"), "schedule-file: no schedule file 'nothing'; "),
]


@pytest.mark.parametrize(("arguments", "sentence"), REFUSED, ids=lambda each: str(each)[:60])
def test_a_refusal_is_one_line(cli, arguments, sentence):
    ran = cli(*arguments)
    assert ran.code == 1
    assert ran.out == ""
    assert ran.err.startswith(f"error: {sentence}")
    assert ran.err.count("\n") == 1


@pytest.mark.skipif(driver_present(), reason="needs a machine without a GPU")
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("bench", SHIPPED), "there is no GPU to run on: "),
        (("run", SHIPPED, "--shape", "8,8,8", "--device", "gpu"), "there is no GPU to run on: "),
        (("check", SHIPPED, "--device", "gpu"), "there is no GPU to run on: "),
        (
            ("run", SHIPPED, "--shape", "100000,100000,100000"),
            "m=100000, k=100000, n=100000 is 1.00e+15 multiply-adds, the simulator is limited to "
            "1.07e+09 by device='auto'; use a smaller problem, a GPU, or device='cpu' to wait",
        ),
    ],
    ids=lambda each: str(each)[:60],
)
def test_what_needs_a_gpu_says_so_in_one_line(cli, arguments, sentence):
    ran = cli(*arguments)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith(f"error: {sentence}")
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("compile",),
        ("compile", SHIPPED, "--nothing"),
        ("run", SHIPPED),
        ("run", SHIPPED, "--shape", "8,8,8", "--device", "tpu"),
        ("emission",),
        ("check", SHIPPED, "--examples", "many"),
    ],
    ids=" ".join,
)
def test_a_mistyped_command_line_is_code_2(cli, arguments):
    ran = cli(*arguments)
    assert ran.code == 2
    assert ran.out == ""
    assert "Usage" in ran.err


def test_an_illegal_schedule_is_refused_at_its_line(cli, tmp_path):
    cli("new", "mine")
    path = tmp_path / "mine.py"
    text = path.read_text().replace("s.tile(m=128,", "s.tile(m=100,")
    path.write_text(text)
    line = 1 + text[: text.index("s.tile(")].count("\n")
    ran = cli("compile", path)
    assert ran.code == 1
    assert ran.err.startswith(f"error: {path}:{line}: tile-m: tile m=100 is not a multiple of 64")
