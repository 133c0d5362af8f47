"""Curves as SVG, on logarithmic axes, with nothing but the standard library.

Owns: how a plot looks. Never knows: what is plotted.
"""

import math
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 560, 360
LEFT, RIGHT, TOP, BOTTOM = 72, 24, 56, 52
# As many have room for a label each.
SIZES_MAX = 9
COLOURS = {"etcd": "#c2410c", "cairn": "#1d4ed8"}
MARKS = {"etcd": "square", "cairn": "circle"}


def short(value):
    """`1k`, `2.5M`, `0.1`."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


class Axis:
    """Places values between two ends of the picture; whole powers of ten have lines."""

    def __init__(self, values, begin, end):
        low, high = math.log10(min(values)), math.log10(max(values))
        if high - low < 0.3:
            # Nearly the same value: some room around it.
            low, high = low - 0.3, high + 0.3
        room = (high - low) * 0.06
        self.low, self.high, self.begin, self.end = low - room, high + room, begin, end

    def place(self, value):
        part = (math.log10(value) - self.low) / (self.high - self.low)
        return self.begin + part * (self.end - self.begin)

    def ticks(self):
        whole = range(math.ceil(self.low), math.floor(self.high) + 1)
        ticks = [10.0**power for power in whole]
        if len(ticks) < 3:
            powers = range(math.floor(self.low), math.ceil(self.high) + 1)
            ticks = [digit * 10.0**power for power in powers for digit in (1, 2, 5)]
            ticks = [tick for tick in ticks if self.low <= math.log10(tick) <= self.high]
        return ticks


def svg(title, x_label, y_label, lines):
    """`lines` are points `(x, y)` by name: the kind of server, perhaps with a load. The first load is drawn in whole lines.

    What is not above zero has no place on such axes and is left out.
    """
    lines = {name: [(x, y) for x, y in points if x > 0 and y and y > 0] for name, points in lines.items()}
    lines = {name: points for name, points in lines.items() if points}
    every = [point for points in lines.values() for point in points]
    across = Axis([x for x, _ in every], LEFT, WIDTH - RIGHT)
    up = Axis([y for _, y in every], HEIGHT - BOTTOM, TOP)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="22" font-size="15" font-weight="bold">{escape(title)}</text>',
    ]
    sizes = sorted({x for x, _ in every})
    for tick in sizes if len(sizes) <= SIZES_MAX else across.ticks():
        x = across.place(tick)
        out.append(f'<line x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{HEIGHT - BOTTOM}" stroke="#e5e7eb"/>')
        out.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 17}" text-anchor="middle">{short(tick)}</text>')
    for tick in up.ticks():
        y = up.place(tick)
        out.append(f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" stroke="#e5e7eb"/>')
        out.append(f'<text x="{LEFT - 7}" y="{y + 4:.1f}" text-anchor="end">{short(tick)}</text>')
    out.append(
        f'<rect x="{LEFT}" y="{TOP}" width="{WIDTH - LEFT - RIGHT}" height="{HEIGHT - TOP - BOTTOM}" fill="none" stroke="#6b7280"/>'
    )
    out.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 12}" text-anchor="middle">{escape(x_label)}</text>')
    out.append(f'<text transform="translate(16 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)" text-anchor="middle">{escape(y_label)}</text>')
    first_load = next(iter(lines)).partition(" ")[2]
    for number, (name, points) in enumerate(lines.items()):
        kind, _, load = name.partition(" ")
        colour, dashes = COLOURS.get(kind, "#374151"), "none" if load == first_load else "5 4"
        places = [(across.place(x), up.place(y)) for x, y in sorted(points)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dashes}"/>')
        legend = LEFT + number * 118
        out.append(f'<line x1="{legend}" y1="40" x2="{legend + 22}" y2="40" stroke="{colour}" stroke-width="2" stroke-dasharray="{dashes}"/>')
        out.append(f'<text x="{legend + 28}" y="44">{escape(name)}</text>')
        for x, y in [*places, (legend + 11, 40)]:
            out.append(mark(MARKS.get(kind), x, y, colour))
    return "\n".join([*out, "</svg>", ""])


def mark(shape, x, y, colour):
    if shape == "square":
        return f'<rect x="{x - 3.5:.1f}" y="{y - 3.5:.1f}" width="7" height="7" fill="{colour}"/>'
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>'
