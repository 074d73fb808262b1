"""The colours of the pictures and what they stand for. Text on any of them is INK or PAPER."""

PAPER = "#ffffff"
INK = "#1f2933"
MUTED = "#66727f"
BORDER = "#d5dbe1"
ABSENT = "#eef1f4"

BUFFERS = {
    "weight_ring": "#8fb8de",
    "token_ring": "#f3c178",
    "metadata_ring": "#9fd3c7",
    "fold_ring": "#e6a8b7",
    "staging": "#b9a3d8",
    "sums": "#b9a3d8",
    "zeros": "#9aa5b1",
}
"""Fill of a shared-memory buffer by name; a name without a row takes OTHER_BUFFER."""

OTHER_BUFFER = "#a8d0a0"

KEPT = "#3d7ab8"
KEPT_ROW = "#cfe1f2"
COPY = "#f7dcae"
READ = "#7fb58a"

BANK_GROUPS = (
    "#8dd3c7",
    "#fff3a6",
    "#c5c0e0",
    "#fb9a8f",
    "#8fbfe0",
    "#fdbf75",
    "#b9dd7c",
    "#f7c6de",
)
"""One colour for each of the eight 16-byte bank groups (banks 4g to 4g + 3)."""

CONTENDERS = (
    "#9aa5b1",
    "#c3cbd3",
    "#f3c178",
    "#3d7ab8",
    "#7fb58a",
    "#b9a3d8",
    "#e6a8b7",
    "#8dd3c7",
    "#fb9a8f",
    "#b9dd7c",
)
"""One colour a contender of a comparison, in the order they appear: peers come first."""


def buffer_colour(name: str) -> str:
    """The fill of a shared-memory buffer."""
    return BUFFERS.get(name, OTHER_BUFFER)
