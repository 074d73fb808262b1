"""Work in several processes: nothing is lost when one of them is killed."""

import os

import pytest
from dying import Dying

from samoyeds_gen.check.processes import ATTEMPTS, run_all
from samoyeds_gen.errors import CheckError


def pieces(tmp_path, *times):
    made = []
    for number, each in enumerate(times):
        folder = tmp_path / str(number)
        folder.mkdir()
        made.append(Dying(folder, each))
    return made


def test_a_lost_piece_is_run_again(tmp_path):
    seen = []
    work = pieces(tmp_path, 0, 1, 0)
    results = run_all(work, 2, lambda done, total: seen.append((done, total)))
    assert results[1].counters.runs == 1
    assert len(results) == 3
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_processes_that_keep_dying_are_an_error(tmp_path):
    with pytest.raises(CheckError) as caught:
        run_all(pieces(tmp_path, ATTEMPTS), 2)
    assert str(caught.value) == (
        "processes of the check were ended from outside 3 times; "
        "use fewer jobs, each of them takes half a GB of memory"
    )


def test_the_environment_is_left_as_it_was(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    run_all(pieces(tmp_path, 0), 2)
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert "MKL_NUM_THREADS" not in os.environ


def test_one_job_and_the_gpu_stay_in_this_process(tmp_path, monkeypatch):
    here = []
    monkeypatch.setattr(Dying, "run", lambda self: here.append(os.getpid()))
    run_all(pieces(tmp_path, 0), 1)
    folder = tmp_path / "gpu"
    folder.mkdir()
    run_all([Dying(folder, 0, device="gpu")], 4)
    assert here == [os.getpid()] * 2
