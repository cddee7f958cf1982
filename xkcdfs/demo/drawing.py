"""The demo's drawings: each number has one, always the same, made of figures, graphs and shapes."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from functools import lru_cache, partial
from textwrap import wrap

from xkcdfs.demo import encoders
from xkcdfs.demo.canvas import BLUE, GREEN, INK, PALETTE, RED, Canvas, Point, text_width

__all__ = ["draw"]

HEADER = 34
FRAMES = 4  # of an animation

_TALK = (
    ("I made a graph.", "Of what?", "Of how many graphs I make."),
    ("It works now.", "What did you change?", "I stopped looking at it."),
    ("Is it plugged in?", "Define 'in'.", "Define 'plugged'."),
    ("How long will it take?", "Two minutes.", "You said that on Monday."),
    ("I sorted the socks.", "By colour?", "By regret."),
    ("The map is wrong.", "Or the town is.", "I'll file a bug on both."),
    ("What's the plan?", "Step one: a plan.", "So we are at step zero."),
    ("Nice telescope.", "It's a kettle.", "It shows great clouds."),
    ("I proved it.", "Is it long?", "It fits in the margin."),
    ("We ran out of names.", "Call it 'names'.", "That one is taken."),
)
_OUTDOORS = (
    "Hello, weather.", "It is bigger on paper.", "So that's where I left it.", "No signal. Good.",
    "Who moved the sun?", "I came for the wifi.", "It loads so fast out here.",
    "Needs more contrast.",
)  # fmt: skip
_AXES = ("TIME", "TEA", "SLEEP", "TABS OPEN", "CERTAINTY", "NOISE", "MEETINGS", "CATS", "HOPE")
_SETS = ("FUN", "USEFUL", "CHEAP", "LEGAL", "FINISHED", "ROUND", "LOUD", "MINE", "ON FIRE")
_STEPS = ("START", "IS IT ON?", "WAIT", "PANIC", "TEA", "ASK A CAT", "DONE?", "SHRUG")


@lru_cache(maxsize=128)
def draw(number: int, title: str, kind: str, scale: int = 1, quarter: int | None = None) -> bytes:
    """The image of comic *number* as a file of *kind*: 'png', 'jpg' or 'gif' (which moves).

    *scale* 2 gives the same drawing in double resolution; with *quarter*, a quarter hour of the
    day, it is a clock.
    """
    if kind == "gif":
        frames = [_page(number, title, scale, _orbits, i / FRAMES) for i in range(FRAMES)]
        first = frames[0]
        pixels = [bytes(frame.pixels) for frame in frames]
        return encoders.gif(first.width, first.height, pixels, PALETTE, delay=40)
    if quarter is not None:
        canvas = _page(number, title, scale, _clock, quarter / 96)
    else:
        scene = _SCENES[random.Random(number * 7919).randrange(len(_SCENES))]
        canvas = _page(number, title, scale, scene, 0.0)
    encode = encoders.jpeg if kind == "jpg" else encoders.png
    return encode(canvas.width, canvas.height, bytes(canvas.pixels), PALETTE)


# A scene draws on the part of the canvas below the header: its width and height, a source of
# chance, and how far an animation or a clock has come, 0 to 1.
Scene = Callable[[Canvas, int, int, random.Random, float], None]


def _page(number: int, title: str, scale: int, scene: Scene, phase: float) -> Canvas:
    rnd = random.Random(number)
    width, height = rnd.randrange(320, 481, 20), rnd.randrange(220, 321, 20)
    canvas = Canvas(width, height, number, scale)
    label = f"#{number}"
    room = width - 40 - text_width(label, 8)
    size = max(6.0, min(11.0, 11.0 * room / max(1.0, text_width(title, 11))))
    canvas.text((14, 14), title, size)
    canvas.text((width - 14 - text_width(label, 8), 15), label, 8, BLUE)
    canvas.box(5, 5, width - 6, height - 6)
    scene(canvas, width, height, rnd, phase)
    return canvas


def _figure(canvas: Canvas, x: float, ground: float, size: float, rnd: random.Random) -> Point:
    """A stick figure that stands at *x*; returns the top of its head."""
    head = size * 0.16
    neck, hip = ground - size + 2 * head, ground - size * 0.38
    lean = rnd.uniform(-0.05, 0.05) * size
    canvas.circle((x + lean, neck - head), head)
    canvas.stroke([(x + lean, neck), (x, hip)])
    for side in (-1, 1):
        canvas.stroke([(x, hip), (x + side * size * 0.13, ground)])
        elbow = (x + side * size * rnd.uniform(0.12, 0.18), neck + size * rnd.uniform(0.14, 0.22))
        hand = (x + side * size * rnd.uniform(0.14, 0.28), neck + size * rnd.uniform(0.05, 0.38))
        canvas.stroke([(x + lean, neck + size * 0.05), elbow, hand])
    return (x + lean, ground - size)


def _say(canvas: Canvas, at: Point, text: str, tip: Point, room: int) -> None:
    lines = wrap(text, max(8, int(room / 7.8)))
    x, y = at
    for i, line in enumerate(lines):
        canvas.text((x, y + i * 13), line, 8, centred=True)
    canvas.stroke([(x, y + len(lines) * 13 + 1), (tip[0] + (x - tip[0]) * 0.2, tip[1] - 5)], 1.3)


def _talk(canvas: Canvas, w: int, h: int, rnd: random.Random, _: float) -> None:
    first, second, third = rnd.choice(_TALK)
    ground, size = h - 22, (h - HEADER) * 0.42
    left = _figure(canvas, w * 0.28, ground, size, rnd)
    right = _figure(canvas, w * 0.7, ground, size * rnd.uniform(0.92, 1.05), rnd)
    room = int(w * 0.42)
    _say(canvas, (w * 0.27, HEADER + 8), first, left, room)
    _say(canvas, (w * 0.73, HEADER + 26), second, right, room)
    canvas.text((w / 2, h - 17), third, 6, centred=True)
    canvas.stroke([(16, ground), (w - 17, ground)], 1.3)


def _axes(canvas: Canvas, w: int, h: int, rnd: random.Random) -> tuple[float, float, float, float]:
    left, top, right, bottom = 34.0, HEADER + 12.0, w - 24.0, h - 32.0
    canvas.stroke([(left, top - 6), (left, bottom), (right + 6, bottom)])
    canvas.stroke([(left - 4, top), (left, top - 7), (left + 4, top)], 1.4)
    canvas.stroke([(right, bottom - 4), (right + 7, bottom), (right, bottom + 4)], 1.4)
    across, up = rnd.sample(_AXES, 2)
    canvas.text(((left + right) / 2, bottom + 9), across, 8, centred=True)
    for i, char in enumerate(up):
        canvas.text((20, top + 4 + i * 11), char, 7, centred=True)
    return left + 6, top + 8, right - 8, bottom - 6


def _lines(canvas: Canvas, w: int, h: int, rnd: random.Random, _: float) -> None:
    left, top, right, bottom = _axes(canvas, w, h, rnd)
    rate, middle, waves = rnd.uniform(4, 9), rnd.uniform(0.35, 0.65), rnd.randint(2, 5)
    shapes: list[Callable[[float], float]] = [
        lambda t: 1 / (1 + math.exp(-rate * 1.6 * (t - middle))),
        lambda t: math.exp(-rate * 4 * (t - middle) ** 2),
        lambda t: 0.5 + 0.4 * math.sin(waves * math.tau * t) * (1 - t * 0.6),
        lambda t: math.exp(-rate * t) * 0.9,
    ]
    for shape, ink in zip(rnd.sample(shapes, 2), (RED, BLUE), strict=True):
        canvas.curve(
            [
                (left + (right - left) * i / 70, bottom - (bottom - top) * shape(i / 70))
                for i in range(71)
            ],
            2.2,
            ink,
        )
    x = left + (right - left) * middle
    canvas.stroke([(x, top), (x, bottom)], 1.0)
    canvas.text((x + 6, top - 4), rnd.choice(("HERE", "YOU ARE HERE", "OOPS", "MONDAY")), 7)


def _bars(canvas: Canvas, w: int, h: int, rnd: random.Random, _: float) -> None:
    left, top, right, bottom = _axes(canvas, w, h, rnd)
    count = rnd.randint(4, 7)
    step = (right - left) / count
    for i in range(count):
        x = left + i * step + step * 0.15
        y = bottom - (bottom - top) * rnd.uniform(0.12, 0.95)
        canvas.hatch(x, y, x + step * 0.7, bottom, rnd.choice((BLUE, RED, GREEN)))
        canvas.box(x, y, x + step * 0.7, bottom)


def _scatter(canvas: Canvas, w: int, h: int, rnd: random.Random, _: float) -> None:
    left, top, right, bottom = _axes(canvas, w, h, rnd)
    slope, spread = rnd.choice((-0.8, 0.0, 0.8)), rnd.uniform(0.06, 0.2)
    for _i in range(60):
        t = rnd.random()
        y = min(1.0, max(0.0, 0.5 + slope * (t - 0.5) + rnd.gauss(0, spread)))
        canvas.dot((left + (right - left) * t, bottom - (bottom - top) * y), 1.8, BLUE)
    ends = [0.5 - slope / 2, 0.5 + slope / 2]
    canvas.stroke([(x, bottom - (bottom - top) * y)
                   for x, y in zip((left, right), ends, strict=True)], 2.0, RED)  # fmt: skip


def _venn(canvas: Canvas, w: int, h: int, rnd: random.Random, _: float) -> None:
    names = rnd.sample(_SETS, 3)
    x, y = w / 2, HEADER + (h - HEADER) / 2 - 4
    r = (h - HEADER) * 0.27
    for name, turn, ink in zip(names, (-150, -30, 90), (RED, BLUE, GREEN), strict=True):
        dx, dy = math.cos(math.radians(turn)), math.sin(math.radians(turn))
        canvas.circle((x + dx * r * 0.62, y + dy * r * 0.62), r, 2.2, ink)
        canvas.text((x + dx * r * 1.05, y + dy * r * 0.95 - 4), name, 7, centred=True)
    canvas.text((x, y - 4), rnd.choice(("ME", "SOUP", "US", "?")), 7, centred=True)


def _tree(canvas: Canvas, w: int, h: int, rnd: random.Random, _: float) -> None:
    spread, shrink = rnd.uniform(0.3, 0.6), rnd.uniform(0.68, 0.76)

    def branch(at: Point, angle: float, length: float, depth: int) -> None:
        end = (at[0] + math.cos(angle) * length, at[1] + math.sin(angle) * length)
        canvas.stroke([at, end], 0.9 + depth * 0.45, GREEN if depth < 2 else INK)
        for side in (-1, 1) if depth else ():
            turn = side * spread * rnd.uniform(0.7, 1.3)
            branch(end, angle + turn, length * shrink, depth - 1)

    branch((w * 0.6, h - 20.0), -math.pi / 2, (h - HEADER) * 0.25, 6)
    canvas.stroke([(16, h - 20), (w - 17, h - 20)])
    _figure(canvas, w * 0.2, h - 20, (h - HEADER) * 0.3, rnd)


def _orbits(canvas: Canvas, w: int, h: int, rnd: random.Random, phase: float) -> None:
    x, y, largest = w / 2, HEADER + (h - HEADER) / 2 - 3, min(w / 2 - 30, h - HEADER - 50.0)
    canvas.dot((x, y), 12, RED)
    for i in range(1, rnd.randint(4, 6)):
        radius = 26 + (largest - 26) * i / 5
        canvas.circle((x, y), radius, 1.0, squash=0.45)
        turn = rnd.uniform(0, math.tau) + math.tau * phase * rnd.choice((1, 2))
        at = (x + radius * math.cos(turn), y + radius * math.sin(turn) * 0.45)
        canvas.dot(at, rnd.uniform(3, 7), rnd.choice((INK, BLUE, GREEN)))


def _flow(canvas: Canvas, w: int, h: int, rnd: random.Random, _: float) -> None:
    columns, rows = 2 + (w > 400), 3
    cell, row = (w - 40) / columns, (h - HEADER - 12) / rows
    names = rnd.sample(_STEPS[1:], columns * rows - 1) if columns == 2 else [*list(_STEPS[1:]), "?"]
    last: Point | None = None
    for i, name in enumerate([_STEPS[0], *names]):
        line, at = divmod(i, columns)
        x = 20 + cell * ((columns - 1 - at if line % 2 else at) + 0.5)
        y = HEADER + row * (line + 0.5)
        half = min(cell * 0.36, text_width(name, 7) / 2 + 9)
        canvas.box(x - half, y - 11, x + half, y + 11)
        canvas.text((x, y - 3.5), name, 7, centred=True)
        if last:
            down = abs(last[0] - x) < 1
            way = 0 if down else math.copysign(1, x - last[0])
            start = (last[0], last[1] + 13) if down else (last[0] + way * cell * 0.38, y)
            end = (x, y - 14) if down else (x - way * cell * 0.4, y)
            canvas.stroke([start, end], 1.5, BLUE)
            back = [(-4, -5), (4, -5)] if down else [(-way * 5, -4), (-way * 5, 4)]
            for dx, dy in back:
                canvas.stroke([(end[0] + dx, end[1] + dy), end], 1.5, BLUE)
        last = (x, y)


def _spiral(canvas: Canvas, w: int, h: int, rnd: random.Random, _: float) -> None:
    x, y, radius = w / 2, HEADER + (h - HEADER) / 2 - 3, (h - HEADER) / 2 - 12
    corners, turn, step = rnd.randint(3, 7), rnd.uniform(0, math.tau), rnd.uniform(0.08, 0.2)
    while radius > 5:
        ring = [
            (x + radius * math.cos(turn + math.tau * i / corners),
             y + radius * math.sin(turn + math.tau * i / corners))
            for i in range(corners + 1)
        ]  # fmt: skip
        canvas.stroke(ring, 1.4, BLUE if radius < 30 else INK)
        turn += step
        radius *= 0.87


def _hill(base: float, swing: float, start: float, wave: float, x: float) -> float:
    return base + swing * math.sin(start + x / wave)


def _hills(canvas: Canvas, w: int, h: int, rnd: random.Random, _: float) -> None:
    sun = (w * rnd.uniform(0.65, 0.85), HEADER + 34.0)
    canvas.circle(sun, 16, 2.0, RED)
    for i in range(10):
        dx, dy = math.cos(math.tau * i / 10), math.sin(math.tau * i / 10)
        canvas.stroke([(sun[0] + dx * 21, sun[1] + dy * 21), (sun[0] + dx * 28, sun[1] + dy * 28)],
                      1.5, RED)  # fmt: skip
    tops: list[Callable[[float], float]] = []
    for i in range(3):
        base, swing, start = h * (0.6 + i * 0.13), h * 0.06, rnd.uniform(0, 6)
        wave = rnd.uniform(50, 110)
        tops.append(partial(_hill, base, swing, start, wave))
        line = [(8 + x, min(h - 10, tops[-1](8 + x))) for x in range(0, w - 16, 6)]
        canvas.curve(line, 1.8, GREEN if i else INK)
    x = w * rnd.uniform(0.15, 0.45)
    top = _figure(canvas, x, tops[1](x), (h - HEADER) * 0.32, rnd)
    words = rnd.choice(_OUTDOORS)
    _say(canvas, (max(x, w * 0.27), HEADER + 6), words, top, int(w * 0.45))


def _clock(canvas: Canvas, w: int, h: int, rnd: random.Random, phase: float) -> None:
    x, y, r = w / 2, HEADER + (h - HEADER) / 2 - 3, (h - HEADER) / 2 - 14
    canvas.circle((x, y), r, 2.4)
    for i in range(24):
        dx, dy = math.cos(math.tau * i / 24), math.sin(math.tau * i / 24)
        inner = r * (0.86 if i % 6 else 0.76)
        canvas.stroke([(x + dx * inner, y + dy * inner), (x + dx * r * 0.94, y + dy * r * 0.94)],
                      1.4)  # fmt: skip
    turn = math.tau * phase - math.pi / 2
    canvas.stroke([(x, y), (x + math.cos(turn) * r * 0.7, y + math.sin(turn) * r * 0.7)], 3, RED)
    canvas.dot((x, y), 4)
    minutes = round(phase * 96) * 15
    canvas.text((x, y + r * 0.3), f"{minutes // 60:02d}:{minutes % 60:02d} UTC", 8, centred=True)


_SCENES: tuple[Scene, ...] = (
    _talk, _talk, _talk, _lines, _lines, _bars, _scatter, _venn, _tree, _orbits, _flow, _spiral,
    _hills, _hills,
)  # fmt: skip
