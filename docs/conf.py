"""Sphinx configuration: MyST Markdown, furo, nothing generated from code at build time."""

project = "samoyeds-gen"
author = "The samoyeds-gen developers"
copyright = author
extensions = ["myst_parser"]
myst_heading_anchors = 3
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build", "measurements"]
html_theme = "furo"
html_title = "samoyeds-gen"
