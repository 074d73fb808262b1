"""Write docs/directives.md, figures of other pages and docs/pictures, or --check them.

python docs/generate.py [--check]
"""

import inspect
import re
import sys
from pathlib import Path

from samoyeds_gen.compiler import compile_plan
from samoyeds_gen.formats import Format
from samoyeds_gen.language import Directives, load_schedule, make_ssmm, schedule
from samoyeds_gen.pictures import (
    draw_expert_tiles,
    draw_format,
    draw_ladder,
    draw_layers,
    draw_models,
    draw_pipeline,
    draw_shared_memory,
)
from samoyeds_gen.tune.ladder_figures import Figures, as_markdown, read_figures
from samoyeds_gen.tune.layers.markdown import (
    layers_markdown,
    memory_markdown,
    models_markdown,
)
from samoyeds_gen.tune.layers.memory_rows import MemoryRow
from samoyeds_gen.tune.layers.model_rows import ModelRow
from samoyeds_gen.tune.layers.rows import LayerRow, read_rows
from samoyeds_gen.tune.markdown import (
    decode_markdown,
    rates_markdown,
    read_products,
    times_markdown,
)

DOCS = Path(__file__).parent
WALK = ((200, 0, 37, 144, 300), 1024, (256, 144), 2, 6)  # what docs/experts.md explains
LADDER = DOCS / "measurements" / "ladder_h200.json"
LAYERS = (
    ("moe", LayerRow, layers_markdown),
    ("model", ModelRow, models_markdown),
    ("memory", MemoryRow, memory_markdown),
)
PRODUCTS = {
    "large": rates_markdown,
    "paper": times_markdown,
    "ragged": times_markdown,
    "decode": decode_markdown,
}

HEAD = """# Directives

<!-- Written by docs/generate.py from the docstrings of samoyeds_gen/language/directives.py. -->

A schedule function receives the directives as its first argument, `s` below. Each may be given once
an operand. The word in brackets is what other systems call it; the picture shows before and after.
"""


def directive_reference() -> str:
    """The directive reference as Markdown, one section for each public method of Directives."""
    parts = [HEAD, _section("@schedule", schedule)]
    for name, method in vars(Directives).items():
        if callable(method) and not name.startswith("_") and name != "finish":
            parts.append(_section(f"s.{name}", method))
    return "\n".join(parts)


def _section(title: str, function: object) -> str:
    """A signature, then the docstring with its pictures as text blocks."""
    paragraphs = inspect.getdoc(function).split("\n\n")
    body = "\n\n".join(_paragraph(each) for each in paragraphs)
    return f"## {title}\n\n```text\n{title}{_signature(function)}\n```\n\n{body}\n"


def _signature(function: object) -> str:
    """Names and defaults; how a type prints differs from one Python version to the next."""
    signature = inspect.signature(function)
    empty = inspect.Parameter.empty
    bare = [each.replace(annotation=empty) for each in signature.parameters.values()]
    kept = [each for each in bare if each.name != "self"]
    return str(signature.replace(parameters=kept, return_annotation=inspect.Signature.empty))


def _paragraph(text: str) -> str:
    """Pictures and indented definitions keep their columns; prose is prose."""
    lines = text.splitlines()
    picture = any("   " in line.strip() or line.startswith("    ") for line in lines)
    return f"```text\n{text}\n```" if picture else text


def hopper_page(figures: Figures) -> str:
    """docs/hopper.md as it stands, with the ladder's tables between their markers."""
    return filled((DOCS / "hopper.md").read_text(), "ladder", as_markdown(figures))


def filled(page: str, name: str, text: str) -> str:
    """A page with the text between the markers of this name, if it has them."""
    place = rf"(?<=<!-- {name} begin -->\n).*?(?=<!-- {name} end -->)"
    return re.sub(place, lambda found: text, page, flags=re.DOTALL)


def products_page(path: Path) -> str:
    """A page as it stands, with the tables of the newest run of every suite of products."""
    page = path.read_text()
    for suite, markdown in PRODUCTS.items():
        runs = sorted((DOCS / "measurements").glob(f"*-h200-{suite}.json"))
        page = filled(page, suite, markdown(read_products(runs[-1]) if runs else []))
    return page


def layers_page() -> str:
    """docs/moe_measurements.md as it stands, with the tables of every suite that was run."""
    page = (DOCS / "moe_measurements.md").read_text()
    for suite, kind, markdown in LAYERS:
        text = markdown(*read_rows(DOCS / "measurements" / f"{suite}_h200.json", kind, suite))
        page = filled(page, suite, text)
    return page


def layer_pictures() -> dict[Path, str]:
    """A picture of every suite of layers that was run."""
    found = {}
    for suite, kind, draw in (("moe", LayerRow, draw_layers), ("model", ModelRow, draw_models)):
        rows, about = read_rows(DOCS / "measurements" / f"{suite}_h200.json", kind, suite)
        if rows:
            found[DOCS / "pictures" / f"{suite}.svg"] = draw(rows, title=about["gpu"])
    return found


def pages() -> dict[Path, str]:
    """Every generated file of the docs and its text."""
    problem = make_ssmm(Format(1, 2, 64), "bfloat16")
    plan = compile_plan(load_schedule("ssmm_sm80", problem.format, problem.dtype), problem)
    hopper_problem = make_ssmm(Format(1, 2, 128), "bfloat16")
    hopper = compile_plan(
        load_schedule("ssmm_sm90", hopper_problem.format, hopper_problem.dtype), hopper_problem
    )
    figures = read_figures(LADDER)
    return {
        DOCS / "directives.md": directive_reference(),
        DOCS / "hopper.md": hopper_page(figures),
        DOCS / "moe_measurements.md": layers_page(),
        DOCS / "measurements" / "README.md": products_page(DOCS / "measurements" / "README.md"),
        DOCS.parent / "README.md": products_page(DOCS.parent / "README.md"),
        **layer_pictures(),
        DOCS / "pictures" / "expert_tiles.svg": draw_expert_tiles(*WALK),
        DOCS / "pictures" / "ladder.svg": draw_ladder(figures),
        DOCS / "pictures" / "hopper_shared_memory.svg": draw_shared_memory(hopper),
        DOCS / "pictures" / "hopper_pipeline.svg": draw_pipeline(hopper),
        DOCS / "pictures" / "format.svg": draw_format(problem.format),
        DOCS / "pictures" / "shared_memory.svg": draw_shared_memory(plan),
        DOCS / "pictures" / "pipeline.svg": draw_pipeline(plan),
    }


def main() -> int:
    """Write or compare; 1 if a file is not current."""
    stale = 0
    for path, text in pages().items():
        name = path.relative_to(DOCS.parent)
        if "--check" not in sys.argv:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
            print(f"wrote {name}")
        elif not path.is_file() or path.read_text() != text:
            print(f"{name} is not current: run python docs/generate.py")
            stale = 1
    return stale


if __name__ == "__main__":
    sys.exit(main())
