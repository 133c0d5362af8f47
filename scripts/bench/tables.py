"""Tables in markdown, and documents whose parts are replaced one by one.

Owns: how results look as text. Never knows: how they were measured.
"""

import re


def number(value):
    """For people: three digits matter."""
    if value is None:
        return "-"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.3f}"


def ratio(one, other):
    """Two digits behind the point: a third is less than what one run differs from the next by."""
    return f"{one / other:,.2f}" if one is not None and other else "-"


def table(heads, rows):
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines) + "\n"


def replace_part(text, name, part):
    """The document with another text between the marks of this part; at its end if it had none."""
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    marked = f"{begin}\n{part.strip()}\n{end}"
    found = re.search(re.escape(begin) + ".*?" + re.escape(end), text, re.DOTALL)
    if found:
        return text[: found.start()] + marked + text[found.end() :]
    return text.rstrip() + "\n\n" + marked + "\n"
