# SPDX-License-Identifier: GPL-2.0
"""The ratios of a run as one SVG: a bar from quartile to quartile, the median, the goal."""

import math
from html import escape

ROW, LEFT, WIDTH, TOP = 22, 430, 520, 46


def svg(result):
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
