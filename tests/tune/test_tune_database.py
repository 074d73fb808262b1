"""The database and shipped tables: what is stored comes back, whatever happens to the file."""

import json
import sqlite3
import threading
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tune_cases import PAIRS, database, record, shipped

from samoyeds_gen.errors import ScheduleError, TuneError
from samoyeds_gen.tune.database import FILE, Database, open_database
from samoyeds_gen.tune.record import FINAL, Record
from samoyeds_gen.tune.tables import read_table, shipped_tables, write_table

SCHEDULES = [shipped(), shipped("ssmm_sm80_exchange"), shipped("ssmm_sm80_expand"), None]

sizes = st.integers(1, 1 << 20)
records = st.builds(
    Record,
    gpu=st.sampled_from(("H200", "A100", "odd 'name'")),
    format=st.sampled_from(("1,2,128", "1,2,64", "")),
    dtype=st.sampled_from(("bfloat16", "float16")),
    shape=st.tuples(sizes, sizes, sizes),
    schedule=st.sampled_from(SCHEDULES),
    effort=st.sampled_from((1, 2, FINAL)),
    us=st.none() | st.floats(0.1, 1e6),
    status=st.sampled_from(("ok", "wrong", "failed")),
    note=st.text(max_size=5),
    kernel=st.sampled_from(("a", "b")),
)


def identity(each):
    return (each.key, each.digest, each.kernel, each.effort)


@given(st.lists(records, max_size=8))
def test_what_is_stored_comes_back_the_latest_of_each(stored):
    opened = database()
    for each in stored:
        opened.store([each])
    latest = {identity(each): each for each in stored}
    for each in latest.values():
        found = opened.measured(
            gpu=each.gpu,
            format=each.format,
            dtype=each.dtype,
            shape=each.shape,
            effort=each.effort,
        )
        assert found[each.digest, each.kernel] == each


@given(st.lists(records, max_size=10))
def test_choices_rest_on_final_and_good_measurements_quickest_first(stored):
    opened = database(*stored)
    found = opened.final(format="1,2,128", dtype="bfloat16")
    assert all(each.effort == FINAL and each.status == "ok" for each in found)
    times = [each.us or 0.0 for each in found]
    assert times == sorted(times)
    keys = [(each.key, each.digest, each.origin) for each in found]
    assert len(keys) == len(set(keys))


def table_records(stored):
    return [
        replace(each, effort=FINAL, us=round(each.us or 1.0, 3), status="ok", note="", kernel="")
        for each in stored
    ]


@given(st.lists(records, max_size=8))
def test_a_table_reads_back_as_it_was_written(stored):
    wanted = {(each.key, each.digest): each for each in table_records(stored)}
    text = write_table(wanted.values())
    found = list(read_table(text, "t.json"))
    assert {(each.key, each.digest): each for each in found} == {
        key: replace(each, origin="t.json") for key, each in wanted.items()
    }
    assert write_table(found) == text, "a table is canonical"


def test_a_file_keeps_measurements_between_openings(tmp_path):
    path = tmp_path / "deep" / "file.sqlite"
    first = Database(path, tables=[])
    first.store([record(shipped(), 5.0)])
    first.close()
    assert [
        each.us for each in Database(path, tables=[]).final(format="1,2,128", dtype="bfloat16")
    ] == [5.0]


def write(path, *found):
    path.write_text(write_table(found))
    return path


def test_shipped_tables_are_loaded_replaced_and_forgotten(tmp_path):
    file, table = tmp_path / "file.sqlite", tmp_path / "gpu.json"

    def times(tables):
        opened = Database(file, tables=tables)
        found = [each.us for each in opened.final(format="1,2,128", dtype="bfloat16")]
        opened.close()
        return found

    own = record(shipped(), 7.0)
    opened = Database(file, tables=[])
    opened.store([own])
    opened.close()
    other = record(shipped("ssmm_sm80_exchange"), 5.0)
    assert times([write(table, other)]) == [5.0, 7.0]
    assert times([table]) == [5.0, 7.0]
    assert times([write(table, replace(other, us=6.0))]) == [6.0, 7.0]
    assert times([]) == [7.0]


def test_an_export_has_the_users_results_where_there_are_any(tmp_path):
    here, there = (4096, 4096, 4096), (8192, 8192, 8192)
    table = write(
        tmp_path / "gpu.json", record(shipped(), 9.0, here), record(shipped(), 90.0, there)
    )
    opened = Database(None, tables=[table])
    opened.store([record(shipped("ssmm_sm80_exchange"), 8.0, here)])
    found = [(each.shape, each.us) for each in read_table(write_table(opened.exported()), "t")]
    assert sorted(found) == [(here, 8.0), (there, 90.0)]


def test_a_file_that_is_no_database_is_refused(tmp_path):
    path = tmp_path / "file.sqlite"
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(TuneError) as caught:
        open_database(path)
    assert str(caught.value).startswith(f"{path} is not a tuning database (")
    assert str(caught.value).endswith("; delete the file, and tune again")


@pytest.mark.parametrize("place", ["a file in the way", "read only"])
def test_without_a_place_to_write_the_shipped_tables_remain(tmp_path, monkeypatch, place):
    path = tmp_path / "directory" / FILE
    if place == "read only":
        Database(path, tables=[]).close()

        def refuse(*arguments, **options):
            raise sqlite3.OperationalError("attempt to write a readonly database")

        real = sqlite3.connect

        def connect(at, **options):
            return (refuse if at == path else real)(at, **options)

        monkeypatch.setattr(sqlite3, "connect", connect)
    else:
        path.parent.write_text("")
    with pytest.warns(RuntimeWarning, match="tuning results are not kept"):
        opened = open_database(path)
    opened.store([record(shipped(), 5.0)])
    assert opened.final(format="1,2,128", dtype="bfloat16")


def test_the_default_file_lies_in_the_cache_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("SAMOYEDS_CACHE_DIR", str(tmp_path))
    open_database().close()
    assert (tmp_path / FILE).is_file()


def test_several_writers_lose_nothing(tmp_path):
    path = tmp_path / "file.sqlite"
    Database(path, tables=[]).close()

    def work(number):
        opened = Database(path, tables=[])
        for at in range(10):
            opened.store([record(shipped(), 1.0 + at, (8 * number + 8, 8, 8 * at + 8))])
        opened.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(Database(path, tables=[]).final(format="1,2,128", dtype="bfloat16")) == 40


def test_all_of_a_batch_is_stored_or_nothing(tmp_path):
    opened = Database(tmp_path / "file.sqlite", tables=[])
    with pytest.raises(sqlite3.Error):
        opened.store([record(shipped(), 5.0), record(shipped(), object(), (8, 8, 8))])
    assert opened.final(format="1,2,128", dtype="bfloat16") == []
    opened.store([record(shipped(), 5.0)])
    assert len(opened.final(format="1,2,128", dtype="bfloat16")) == 1


def test_schedules_of_another_version_are_passed_over(tmp_path):
    path = tmp_path / "file.sqlite"
    opened = Database(path, tables=[])
    opened.store([record(shipped(), 5.0), record(shipped("ssmm_sm80_exchange"), 6.0)])
    opened.close()
    connection = sqlite3.connect(path)
    connection.execute(
        "UPDATE schedules SET json = ? WHERE digest = ?",
        (json.dumps({"directive of tomorrow": 1}), shipped().digest),
    )
    connection.commit()
    connection.close()
    found = Database(path, tables=[]).final(format="1,2,128", dtype="bfloat16")
    assert [each.us for each in found] == [6.0]


TABLE_FAULTS = {
    "no JSON": lambda data: "{",
    "another version": lambda data: json.dumps(data | {"version": 2}),
    "no entries": lambda data: json.dumps({"version": 1, "schedules": {}}),
    "an entry of an unknown schedule": lambda data: json.dumps(data | {"schedules": {}}),
    "a short entry": lambda data: json.dumps(data | {"entries": [["H200", "1,2,128"]]}),
}


@pytest.mark.parametrize("fault", TABLE_FAULTS)
def test_a_table_that_is_none_is_refused(fault):
    data = json.loads(write_table([record(shipped(), 5.0)]))
    with pytest.raises(TuneError) as caught:
        list(read_table(TABLE_FAULTS[fault](data), "gpu.json"))
    assert str(caught.value) == (
        "gpu.json is not a tuning table of version 1; write it with samoyeds-gen tune --export"
    )


def test_a_table_with_a_schedule_that_is_none_is_refused():
    data = json.loads(write_table([record(shipped(), 5.0)]))
    next(iter(data["schedules"].values()))["tile"] = "large"
    with pytest.raises(ScheduleError, match="tile"):
        list(read_table(json.dumps(data), "gpu.json"))


def test_shipped_tables_are_canonical_and_name_known_machines():
    from samoyeds_gen.tune.machines import machine_named

    assert shipped_tables()
    for path in shipped_tables():
        found = list(read_table(path.read_text(), path.name))
        assert found
        assert write_table(found) == path.read_text()
        assert all(machine_named(each.gpu).name == each.gpu for each in found)


def test_shipped_schedules_of_tables_are_legal():
    from tune_cases import task

    from samoyeds_gen.formats import Format
    from samoyeds_gen.tune.choice import legal
    from samoyeds_gen.tune.machines import machine_named

    for path in shipped_tables():
        for each in read_table(path.read_text(), path.name):
            if each.schedule is not None:
                machine = machine_named(each.gpu)
                at = task(each.shape, Format.parse(each.format), machine)
                assert legal(each.schedule, at.problem, at.target)


def test_records_know_what_they_are_of():
    dense = record(None, 5.0)
    assert (dense.digest, dense.format) == ("", "")
    assert record(shipped(), 5.0).key == ("H200", str(PAIRS), "bfloat16", 4096, 4096, 4096)
