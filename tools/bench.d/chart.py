# SPDX-License-Identifier: GPL-2.0
"""Lines over a few steps, as SVG."""

import math
from html import escape

LEFT, TOP, WIDTH, HEIGHT = 70, 44, 560, 320
COLOURS = ("#3b6ea5", "#b3261e", "#2a7f3f", "#8a5a00", "#6a3d9a", "#444")
LEGEND = 18


def ticks(most):
    """Round numbers from 0 to `most` or a little more, at most seven."""
    power = 10.0 ** math.floor(math.log10(most or 1))
    step = next(step for step in (power / 5, power / 2, power, power * 2) if most / step <= 6)
    return [round(step * k, 9) for k in range(math.ceil(most / step) + 1)]


def lines(title, across, up, series):
    """series: (name, [(x, y)], dashed). Each x has a step of the same width, whatever its value."""
    steps = sorted({x for _, points, _ in series for x, _ in points})
    marks = ticks(max(y for _, points, _ in series for _, y in points))
    x = lambda value: LEFT + (steps.index(value) + 0.5) / len(steps) * WIDTH
    y = lambda value: TOP + HEIGHT - value / marks[-1] * HEIGHT
    bottom = TOP + HEIGHT
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 30}" '
           f'height="{bottom + 60 + LEGEND * len(series)}" font-family="sans-serif" font-size="12">',
           '<rect width="100%" height="100%" fill="white"/>',
           f'<text x="8" y="18" font-weight="bold">{escape(title)}</text>',
           f'<text x="8" y="{TOP - 10}" fill="#555">{escape(up)}</text>']
    for mark in marks:
        out.append(f'<line x1="{LEFT}" y1="{y(mark):.1f}" x2="{LEFT + WIDTH}" y2="{y(mark):.1f}" stroke="#ddd"/>')
        out.append(f'<text x="{LEFT - 8}" y="{y(mark) + 4:.1f}" text-anchor="end" fill="#555">{mark:g}</text>')
    for step in steps:
        out.append(f'<text x="{x(step):.1f}" y="{bottom + 18}" text-anchor="middle" fill="#555">{step:g}</text>')
    out.append(f'<text x="{LEFT + WIDTH / 2}" y="{bottom + 38}" text-anchor="middle">{escape(across)}</text>')
    for nr, (name, points, dashed) in enumerate(series):
        colour, style = COLOURS[nr % len(COLOURS)], 'stroke-dasharray="5 4"' if dashed else ""
        path = " ".join(f"{x(at):.1f},{y(value):.1f}" for at, value in points)
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2" {style}/>')
        out += [f'<circle cx="{x(at):.1f}" cy="{y(value):.1f}" r="3.5" fill="{colour}"/>' for at, value in points]
        below = bottom + 56 + LEGEND * nr
        out.append(f'<line x1="{LEFT}" y1="{below - 4}" x2="{LEFT + 28}" y2="{below - 4}" stroke="{colour}" '
                   f'stroke-width="2" {style}/><text x="{LEFT + 36}" y="{below}">{escape(name)}</text>')
    return "\n".join(out + ["</svg>", ""])
