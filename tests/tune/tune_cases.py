"""Tasks, records and an invented world of timings for tests of the tune room."""

import hashlib
from dataclasses import replace

from samoyeds_gen.formats import Format
from samoyeds_gen.language import load_schedule, make_ssmm, target_named
from samoyeds_gen.tune.choice import Task, modelled
from samoyeds_gen.tune.database import Database
from samoyeds_gen.tune.machines import machine_named
from samoyeds_gen.tune.record import FINAL, USER, Record

PAIRS = Format(1, 2, 128)
H200 = machine_named("H200")


def task(shape=(4096, 4096, 4096), format=PAIRS, machine=H200, **problem):
    """A bfloat16 task on an H200."""
    made = make_ssmm(format, "bfloat16", **problem)
    return Task(machine, target_named(machine.target), made, shape)


def shipped(name="ssmm_sm80_prefix", format=PAIRS):
    """A shipped schedule as a plain value."""
    loaded = load_schedule(name, format, make_ssmm(format, "bfloat16").dtype)
    return replace(loaded, where=())


def record(schedule, us, shape=(4096, 4096, 4096), *, format=PAIRS, gpu="H200", **changes):
    """A final measurement."""
    fields = {
        "gpu": gpu,
        "format": "" if schedule is None else str(format),
        "dtype": "bfloat16",
        "shape": shape,
        "schedule": schedule,
        "effort": FINAL,
        "us": us,
        "origin": USER,
    }
    return Record(**(fields | changes))


def database(*records, tables=()):
    """A database in memory with these records and no shipped table."""
    made = Database(None, tables=tables)
    made.store(records)
    return made


def true_us(schedule, at):
    """An invented time: the model's, off by up to a third in a way that only depends on the
    schedule.
    """
    digest = int(hashlib.sha256(schedule.to_json().encode()).hexdigest()[:8], 16)
    return modelled(schedule, at).us * (0.75 + 0.5 * digest / 2**32)
