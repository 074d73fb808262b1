"""Where the project is checked out."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
