"""Draws latency against load as SVG, without any library."""

from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 640, 360, 60, 44, 16, 150
COLOURS = ("#1f6feb", "#d1242f", "#1a7f37", "#9a6700", "#8250df")

# For each server: runs a second, and the median latency in milliseconds, at each number of clients.
Curve = Sequence[tuple[float, float]]


def svg(curves: Mapping[str, Curve]) -> str:
    """Draw a curve for each server: along, the runs a second; up, the milliseconds of one."""
    most_x = max((x for curve in curves.values() for x, _ in curve), default=1) * 1.1
    most_y = max((y for curve in curves.values() for _, y in curve), default=1) * 1.1

    def at(point: tuple[float, float]) -> str:
        x = LEFT + point[0] / most_x * (WIDTH - LEFT - RIGHT)
        y = HEIGHT - BOTTOM - point[1] / most_y * (HEIGHT - BOTTOM - TOP)
        return f"{x:.1f},{y:.1f}"

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<path d="M{at((0, most_y))} L{at((0, 0))} L{at((most_x, 0))}" fill="none" stroke="#57606a"/>',
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{HEIGHT - 8}" text-anchor="middle">runs a second</text>',
        f'<text x="14" y="{HEIGHT / 2:.0f}" transform="rotate(-90 14 {HEIGHT / 2:.0f})" text-anchor="middle">ms</text>',
    ]
    for share in (0.25, 0.5, 0.75, 1):
        x, y = at((most_x * share, 0)), at((0, most_y * share))
        parts.append(_label(x, f"{most_x * share:.0f}", "middle", down=16))
        parts.append(_label(y, f"{most_y * share:.0f}", "end", along=-6, down=4))
    for colour, (number, (name, curve)) in zip(COLOURS, enumerate(curves.items()), strict=False):
        parts.append(f'<polyline points="{" ".join(map(at, curve))}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [
            f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"/>' for x, y in (at(each).split(",") for each in curve)
        ]
        parts.append(
            f'<text x="{WIDTH - RIGHT + 8}" y="{TOP + 16 + 18 * number}" fill="{colour}">{escape(name)}</text>'
        )
    return "\n".join([*parts, "</svg>", ""])


def _label(place: str, text: str, anchor: str, *, along: int = 0, down: int = 0) -> str:
    x, y = map(float, place.split(","))
    return f'<text x="{x + along:.1f}" y="{y + down:.1f}" text-anchor="{anchor}" fill="#57606a">{text}</text>'
