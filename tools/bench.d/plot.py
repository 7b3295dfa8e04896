# SPDX-License-Identifier: GPL-2.0
"""The results of a run as SVG: ratios (a bar from quartile to quartile, the median, the goal), allocation retries, hotpot."""

import math
from html import escape

import hotpot_plot

ROW, LEFT, WIDTH, TOP = 22, 560, 520, 46
COLOURS = ("#3b6ea5", "#b3261e", "#2a7f3f", "#8a5a00")


def ratios(result):
    rows = [r for r in result["rows"] if "ratio" in r]
    if not rows:
        return None
    values = [v for r in rows for v in [*r["ratio_range"], r.get("goal", 1)] if v > 0]
    low, high = math.log10(min(values + [0.5])), math.log10(max(values + [2]))
    x = lambda ratio: LEFT + (math.log10(max(ratio, 1e-6)) - low) / (high - low) * WIDTH
    height = TOP + ROW * len(rows) + 16
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 70}" height="{height}" '
           'font-family="sans-serif" font-size="12">',
           '<rect width="100%" height="100%" fill="white"/>',
           f'<text x="8" y="18" font-weight="bold">Ours / peer, median of {result["rounds"]} rounds '
           '(left of 1: ours is faster)</text>']
    for tick in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100):
        if low <= math.log10(tick) <= high:
            colour = "#888" if tick == 1 else "#ddd"
            out.append(f'<line x1="{x(tick):.1f}" y1="{TOP - 6}" x2="{x(tick):.1f}" y2="{height - 12}" stroke="{colour}"/>')
            out.append(f'<text x="{x(tick):.1f}" y="{TOP - 10}" text-anchor="middle" fill="#555">{tick:g}</text>')
    for i, r in enumerate(rows):
        y = TOP + ROW * i + ROW / 2
        colour = {True: "#2a7f3f", False: "#b3261e"}.get(r.get("met"), "#3b6ea5")
        (q1, q3), median = r["ratio_quartiles"], r["ratio"]
        out.append(f'<text x="{LEFT - 10}" y="{y + 4:.1f}" text-anchor="end">'
                   f'{escape(r["case"])} / {escape(r["peer"])}</text>')
        out.append(f'<rect x="{x(q1):.1f}" y="{y - 5:.1f}" width="{max(x(q3) - x(q1), 1):.1f}" height="10" '
                   f'fill="{colour}" fill-opacity="0.35"/>')
        out.append(f'<circle cx="{x(median):.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>')
        out.append(f'<text x="{x(max(median, q3)) + 8:.1f}" y="{y + 4:.1f}" fill="{colour}">{median:.2f}</text>')
        if "goal" in r:
            out.append(f'<line x1="{x(r["goal"]):.1f}" y1="{y - 9:.1f}" x2="{x(r["goal"]):.1f}" y2="{y + 9:.1f}" '
                       'stroke="black" stroke-width="2"/>')
    return "\n".join(out + ["</svg>", ""])


def polyline(points, x, y, colour, style):
    path = " ".join(f"{x(at):.1f},{y(value):.1f}" for at, value in points)
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2" {style}/>'


def retries(figure):
    """Mean (solid) and most (dotted) retries of an allocation by how full the pool was."""
    left, top, width, height = 60, 60, 640, 320
    most = max([1, *(p["most"] for s in figure["sizes"] for p in s["points"])])
    x = lambda full: left + full * width
    y = lambda value: top + height - value / most * height
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 40}" height="{top + height + 60}" '
           'font-family="sans-serif" font-size="12">',
           '<rect width="100%" height="100%" fill="white"/>',
           f'<text x="8" y="18" font-weight="bold">Retries of an allocation (solid: mean, dotted: most), '
           f'pool of {figure["pool_pages"]} pages, {figure["seeds"]} seeds</text>']
    for percent in range(0, 101, 10):
        at = x(percent / 100)
        out.append(f'<line x1="{at:.1f}" y1="{top}" x2="{at:.1f}" y2="{top + height}" '
                   f'stroke="{"#888" if percent == 50 else "#ddd"}"/>')
        out.append(f'<text x="{at:.1f}" y="{top + height + 18}" text-anchor="middle" fill="#555">{percent} %</text>')
    for value in range(most + 1):
        out.append(f'<text x="{left - 8}" y="{y(value) + 4:.1f}" text-anchor="end" fill="#555">{value}</text>')
        out.append(f'<line x1="{left}" y1="{y(value):.1f}" x2="{left + width}" y2="{y(value):.1f}" stroke="#ddd"/>')
    out.append(f'<text x="{left + width / 2}" y="{top + height + 40}" text-anchor="middle">pages promised, of the pool</text>')
    for at, (size, colour) in enumerate(zip(figure["sizes"], COLOURS)):
        out.append(polyline([(p["full"], p["retries"]) for p in size["points"]], x, y, colour, ""))
        out.append(polyline([(p["full"], p["most"]) for p in size["points"]], x, y, colour, 'stroke-dasharray="2 4" opacity="0.7"'))
        out.append(f'<text x="{left + 8 + at * 150}" y="{top - 14}" fill="{colour}">{size["pages"]} pages each</text>')
    return "\n".join(out + ["</svg>", ""])


def pictures(result):
    """File names and what is in them."""
    picture = ratios(result)
    if picture:
        yield "ratios.svg", picture
    figure = result.get("allocation_retries", {})
    if "sizes" in figure:
        yield "allocation-retries.svg", retries(figure)
    yield from hotpot_plot.pictures(result)
