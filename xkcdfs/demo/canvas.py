"""A raster to draw on with a shaky pen: strokes, shapes and hand lettering."""

from __future__ import annotations

import itertools
import math
import random
import unicodedata
from collections.abc import Iterable, Sequence

__all__ = ["BLUE", "GREEN", "INK", "PALETTE", "RED", "Canvas", "Point", "text_width"]

Point = tuple[float, float]

SHADES = 16
INKS = ((24, 24, 28), (200, 56, 44), (44, 92, 176), (70, 130, 60))
INK, RED, BLUE, GREEN = range(4)

# Index ink * SHADES + shade, from paper to full ink.
PALETTE = [
    (
        255 - (255 - ink[0]) * shade // (SHADES - 1),
        255 - (255 - ink[1]) * shade // (SHADES - 1),
        255 - (255 - ink[2]) * shade // (SHADES - 1),
    )
    for ink in INKS
    for shade in range(SHADES)
]

# Strokes of each letter as digit pairs x, y on a grid of 5 by 7, the base line at 6.
_GLYPHS = {
    "A": "062046 1434", "B": "0006 003041423303 3344453606", "C": "4130100105163645",
    "D": "002042442606 0006", "E": "40000646 0333", "F": "400006 0333",
    "G": "41301001051636454323", "H": "0006 4046 0343", "I": "1030 2026 1636", "J": "3035261605",
    "K": "0006 400346", "L": "000646", "M": "0600244046", "N": "06004640",
    "O": "103041453616050110", "P": "06003041423303", "Q": "103041453616050110 2446",
    "R": "06003041423303 2346", "S": "413010010213334445361605", "T": "0040 2026",
    "U": "000516364540", "V": "002640", "W": "0016233640", "X": "0046 4006", "Y": "002340 2326",
    "Z": "00400646", "0": "103041453616050110", "1": "112026 1636", "2": "01103041420646",
    "3": "01103041423313 334445361605", "4": "36300444", "5": "400002324345361605",
    "6": "30110305163645443304", "7": "004016", "8": "103041423313020110 133344453616050413",
    "9": "4233130201103041433516", ".": "2626", ",": "2517", "!": "2024 2626",
    "?": "01103041422324 2626", "'": "2021", '"': "1011 3031", "-": "1333", ":": "2323 2626",
    ";": "2323 2617", "(": "30212536", ")": "10212516", "/": "4006", "=": "0242 0444",
    "+": "2125 0343", "#": "1016 3036 0242 0444", "&": "4612112031320405162644",
    "<": "410345", ">": "014305", "*": "2124 0234 0432", "%": "4006 1010 3636",
}  # fmt: skip
_ADVANCE = 5.6 / 6


def text_width(text: str, height: float) -> float:
    """How wide *text* is in letters of *height*."""
    return max(0.0, len(text) * _ADVANCE - 0.2) * height


class Canvas:
    """Points are (x, y) in a drawing's own units, which *scale* turns into pixels; the same *seed*
    draws the same shakes."""

    def __init__(self, width: int, height: int, seed: int, scale: int = 1) -> None:
        self.width = width * scale
        self.height = height * scale
        self.pixels = bytearray(self.width * self.height)
        self._scale = scale
        self._random = random.Random(seed)

    def stroke(self, points: Sequence[Point], width: float = 1.8, ink: int = INK) -> None:
        """A line through *points*."""
        for start, end in itertools.pairwise(points):
            self._line(start, end, width, ink, shake=0.45)

    def curve(self, points: Iterable[Point], width: float = 1.8, ink: int = INK) -> None:
        """A line through *points* that lie so close that the pen need not shake between them."""
        line = list(points)
        for start, end in itertools.pairwise(line):
            self._line(start, end, width, ink, shake=0.0)

    def circle(
        self, centre: Point, radius: float, width: float = 1.8, ink: int = INK, squash: float = 1.0
    ) -> None:
        """A circle, or an ellipse *squash* times as high as it is wide, not quite closed."""
        turn = self._random.uniform(0, math.tau)
        wave = self._random.uniform(0, math.tau)
        steps = max(12, int(radius * 1.5))
        self.curve(
            [
                (
                    centre[0] + r * math.cos(a),
                    centre[1] + r * math.sin(a) * squash,
                )
                for i in range(steps + 1)
                for a in [turn + math.tau * i / steps]
                for r in [radius * (1 + 0.025 * math.sin(2 * a + wave))]
            ],
            width,
            ink,
        )

    def dot(self, centre: Point, radius: float, ink: int = INK) -> None:
        """A filled circle."""
        self._line(centre, centre, radius * 2, ink, shake=0.0)

    def box(self, left: float, top: float, right: float, bottom: float, width: float = 1.8) -> None:
        """A rectangle."""
        corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
        self.stroke(corners, width)

    def hatch(self, left: float, top: float, right: float, bottom: float, ink: int) -> None:
        """Slanted lines that fill a rectangle."""
        step, slant = 6.0, bottom - top
        at = left - slant
        while at < right:
            start, end = max(at, left), min(at + slant, right)
            if end - start > 1:
                self._line(
                    (start, bottom - (start - at)), (end, bottom - (end - at)), 1.3, ink, shake=0.2
                )
            at += step

    def text(
        self, at: Point, text: str, height: float = 10, ink: int = INK, *, centred: bool = False
    ) -> None:
        """One line of capitals; *at* is its upper left corner, or the middle of its upper edge."""
        plain = unicodedata.normalize("NFKD", text).upper()
        x, y = at
        if centred:
            x -= text_width(plain, height) / 2
        unit = height / 6
        for char in plain:
            lean, drop = self._random.uniform(-0.3, 0.3), self._random.uniform(-0.35, 0.35)
            for strokes in _GLYPHS.get(char, "").split():
                pairs = [
                    (
                        x + (int(a) * 0.88 + lean * (1 - int(b) / 6)) * unit,
                        y + (int(b) + drop) * unit,
                    )
                    for a, b in zip(strokes[::2], strokes[1::2], strict=True)
                ]
                for start, end in itertools.pairwise(pairs):
                    self._line(start, end, max(1.1, height / 8), ink, shake=0.0)
            x += _ADVANCE * height

    def _line(self, start: Point, end: Point, width: float, ink: int, shake: float) -> None:
        # Short pieces keep each piece's bounding box small, and let the pen shake at every joint.
        (x0, y0), (x1, y1) = start, end
        length = math.hypot(x1 - x0, y1 - y0)
        pieces = max(1, int(length / 9))
        last = start
        for i in range(1, pieces + 1):
            at = (x0 + (x1 - x0) * i / pieces, y0 + (y1 - y0) * i / pieces)
            if shake and i < pieces:
                at = (at[0] + self._random.gauss(0, shake), at[1] + self._random.gauss(0, shake))
            self._piece(last, at, width, ink)
            last = at

    def _piece(self, start: Point, end: Point, width: float, ink: int) -> None:
        scale = self._scale
        x0, y0, x1, y1 = start[0] * scale, start[1] * scale, end[0] * scale, end[1] * scale
        reach = width * scale / 2 + 0.5
        dx, dy = x1 - x0, y1 - y0
        square = dx * dx + dy * dy or 1e-9
        pixels, base, full = self.pixels, ink * SHADES, SHADES - 1
        left = max(0, math.floor(min(x0, x1) - reach))
        right = min(self.width - 1, math.ceil(max(x0, x1) + reach))
        for y in range(
            max(0, math.floor(min(y0, y1) - reach)),
            min(self.height - 1, math.ceil(max(y0, y1) + reach)) + 1,
        ):
            row, py = y * self.width, y - y0
            for x in range(left, right + 1):
                px = x - x0
                t = (px * dx + py * dy) / square
                t = 0.0 if t < 0 else 1.0 if t > 1 else t
                ex, ey = px - t * dx, py - t * dy
                distance = ex * ex + ey * ey
                if distance < reach * reach:
                    cover = reach - math.sqrt(distance)
                    shade = full if cover >= 1 else int(cover * full)
                    if shade > pixels[row + x] % SHADES:
                        pixels[row + x] = base + shade
