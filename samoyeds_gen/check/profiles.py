"""How much a check does: named numbers of examples, and whether schedules are drawn too."""

from dataclasses import dataclass

from samoyeds_gen.errors import CheckError


@dataclass(frozen=True, slots=True)
class Profile:
    """`examples` in all. With `drawn` kernels, the schedule, format and target of each are drawn
    around the file's own and `examples` are dealt to them; with 0 the covering set is checked.
    """

    name: str
    examples: int
    drawn: int = 0


PROFILES = (
    Profile("quick", 72),
    Profile("default", 240),
    Profile("thorough", 4_800),
    Profile("nightly", 100_000, drawn=400),
)


def profile_named(name: str) -> Profile:
    """Look a profile up by name. Raises `CheckError` naming the known ones."""
    for profile in PROFILES:
        if profile.name == name:
            return profile
    names = ", ".join(profile.name for profile in PROFILES)
    raise CheckError(f"profile {name!r} is not one of {names}", remedy=f"use one of {names}")


def examples_checked(examples: int | None, profile: Profile) -> int:
    """`examples`, or the profile's own number; `CheckError` unless it is at least 1."""
    if examples is None:
        return profile.examples
    if not isinstance(examples, int) or isinstance(examples, bool) or examples < 1:
        raise CheckError(
            f"examples={examples!r} is not a positive integer", remedy="ask for at least 1"
        )
    return examples
