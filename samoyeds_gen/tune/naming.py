"""Names of schedules that tuning makes from others: the origin's, the tile, and a digest."""

import re
from dataclasses import replace

from samoyeds_gen.language import Schedule

_MADE = re.compile(r"_m\d+n\d+k\d+_[0-9a-f]{6}$")


def named(variant: Schedule, origin: str) -> Schedule:
    """A variant under a name that tells it from its origin and from others of its tile.

    An origin that was named so itself gives way to its own origin.
    """
    origin = _MADE.sub("", origin)
    tile = variant.tile
    plain = replace(variant, name=origin, where=())
    return replace(plain, name=f"{origin}_m{tile.m}n{tile.n}k{tile.k}_{plain.digest[:6]}")
