"""PNG, GIF and JPEG from a raster of palette indices, with the standard library alone."""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Sequence

__all__ = ["gif", "jpeg", "png"]

Palette = Sequence[tuple[int, int, int]]


def png(width: int, height: int, pixels: bytes, palette: Palette) -> bytes:
    """A PNG of colour type 3 (RFC 2083); *pixels* holds width * height indices."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    rows = b"".join(
        b"\0" + pixels[at : at + width] for at in range(0, width * height, width)
    )  # each row starts with its filter, here none
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
            chunk(b"PLTE", bytes(value for colour in palette for value in colour)),
            chunk(b"IDAT", zlib.compress(rows, 6)),
            chunk(b"IEND", b""),
        )
    )


def gif(width: int, height: int, frames: Sequence[bytes], palette: Palette, delay: int) -> bytes:
    """A GIF89a of *frames*, each shown for *delay* hundredths of a second, in an endless loop.

    The palette has at most 128 colours.
    """
    bits = 7
    table = bytes(value for colour in palette for value in colour).ljust(3 << bits, b"\0")
    out = [b"GIF89a", struct.pack("<HHBBB", width, height, 0xF0 | (bits - 1), 0, 0), table]
    if len(frames) > 1:
        out.append(b"\x21\xff\x0bNETSCAPE2.0\x03\x01\0\0\0")
    for frame in frames:
        out.append(struct.pack("<BBBBHBB", 0x21, 0xF9, 4, 4, delay, 0, 0))
        out.append(struct.pack("<BHHHHBB", 0x2C, 0, 0, width, height, 0, bits))
        data = _lzw(frame, bits)
        for at in range(0, len(data), 255):
            block = data[at : at + 255]
            out.append(bytes((len(block),)) + block)
        out.append(b"\0")
    out.append(b";")
    return b"".join(out)


def _lzw(pixels: bytes, bits: int) -> bytes:
    clear, end = 1 << bits, (1 << bits) + 1
    singles = [bytes((value,)) for value in range(clear)]
    out = bytearray()
    buffer, filled = clear, bits + 1
    codes: dict[bytes, int] = {single: code for code, single in enumerate(singles)}
    following, size = end + 1, bits + 1
    run = b""
    for value in pixels:
        longer = run + singles[value]
        if longer in codes:
            run = longer
            continue
        buffer |= codes[run] << filled
        filled += size
        codes[longer] = following
        following += 1
        if following - 1 == 1 << size and size < 12:
            size += 1
        if following == 4095:
            buffer |= clear << filled
            filled += size
            codes = {single: code for code, single in enumerate(singles)}
            following, size = end + 1, bits + 1
        while filled >= 8:
            out.append(buffer & 255)
            buffer >>= 8
            filled -= 8
        run = singles[value]
    if run:
        buffer |= codes[run] << filled
        filled += size
        # The reader adds an entry on this code too, which may widen the next.
        if following == 1 << size and size < 12:
            size += 1
    buffer |= end << filled
    filled += size
    out += buffer.to_bytes((filled + 7) // 8, "little")
    return bytes(out)


# ITU-T T.81, annex K: the luminance quantization table, halved, and its Huffman tables.
_QUANTA = [
    8, 6, 5, 8, 12, 20, 26, 31, 6, 6, 7, 10, 13, 29, 30, 28, 7, 7, 8, 12, 20, 29, 35, 28,
    7, 9, 11, 15, 26, 44, 40, 31, 9, 11, 19, 28, 34, 55, 52, 39, 12, 18, 28, 32, 41, 52, 57, 46,
    25, 32, 39, 44, 52, 61, 60, 51, 36, 46, 48, 49, 56, 50, 52, 50,
]  # fmt: skip
_ZIGZAG = sorted(
    range(64),
    key=lambda i: (i // 8 + i % 8, i // 8 if (i // 8 + i % 8) % 2 else i % 8),
)
_DC_LENGTHS = bytes((0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0))
_DC_VALUES = bytes(range(12))
_AC_LENGTHS = bytes((0, 2, 1, 3, 3, 2, 4, 3, 5, 5, 4, 4, 0, 0, 1, 0x7D))
_AC_VALUES = bytes.fromhex(
    "01020300041105122131410613516107227114328191a1082342b1c11552d1f02433627282090a161718191a25262728"
    "292a3435363738393a434445464748494a535455565758595a636465666768696a737475767778797a83848586878889"
    "8a92939495969798999aa2a3a4a5a6a7a8a9aab2b3b4b5b6b7b8b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae1e2"
    "e3e4e5e6e7e8e9eaf1f2f3f4f5f6f7f8f9fa"
)
_COSINES = [
    [math.cos((2 * x + 1) * u * math.pi / 16) * (math.sqrt(0.125) if u == 0 else 0.5)
     for x in range(8)]
    for u in range(8)
]  # fmt: skip


def jpeg(width: int, height: int, pixels: bytes, palette: Palette) -> bytes:
    """A baseline JPEG in shades of grey (ITU-T T.81)."""
    grey = bytes((299 * r + 587 * g + 114 * b) // 1000 for r, g, b in palette)
    shades = pixels.translate(grey.ljust(256, b"\0"))
    dc, ac = _huffman(_DC_LENGTHS, _DC_VALUES), _huffman(_AC_LENGTHS, _AC_VALUES)
    bits: list[str] = []
    previous = 0
    for y in range(0, height, 8):
        rows = [shades[min(y + j, height - 1) * width :][:width] for j in range(8)]
        for x in range(0, width, 8):
            block = [row[x : x + 8].ljust(8, row[-1:]) for row in rows]
            level, *rest = _coefficients(block)
            bits.append(_coded(dc, 0, level - previous))
            previous = level
            zeros = 0
            while rest and not rest[-1]:
                rest.pop()
            full = len(rest) == 63
            for value in rest:
                if not value:
                    zeros += 1
                    continue
                bits.append(ac[0xF0] * (zeros // 16))
                bits.append(_coded(ac, zeros % 16, value))
                zeros = 0
            if not full:
                bits.append(ac[0])
    stream = "".join(bits)
    stream += "1" * (-len(stream) % 8)
    scan = int(stream, 2).to_bytes(len(stream) // 8, "big").replace(b"\xff", b"\xff\0")

    def segment(marker: int, data: bytes) -> bytes:
        return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data

    return b"".join(
        (
            b"\xff\xd8",
            segment(0xE0, b"JFIF\0\x01\x01\0\0\x01\0\x01\0\0"),
            segment(0xDB, b"\0" + bytes(_QUANTA[i] for i in _ZIGZAG)),
            segment(0xC0, struct.pack(">BHHBBBB", 8, height, width, 1, 1, 0x11, 0)),
            segment(0xC4, b"\0" + _DC_LENGTHS + _DC_VALUES),
            segment(0xC4, b"\x10" + _AC_LENGTHS + _AC_VALUES),
            segment(0xDA, b"\x01\x01\0\0\x3f\0"),
            scan,
            b"\xff\xd9",
        )
    )


def _huffman(lengths: bytes, values: bytes) -> dict[int, str]:
    codes: dict[int, str] = {}
    code, at = 0, 0
    for length, count in enumerate(lengths, 1):
        for value in values[at : at + count]:
            codes[value] = f"{code:0{length}b}"
            code += 1
        at += count
        code <<= 1
    return codes


def _coded(codes: dict[int, str], zeros: int, value: int) -> str:
    """*value* after *zeros* zeros: the code of its size, then its bits (T.81, F.1.2)."""
    size = abs(value).bit_length()
    low = value if value > 0 else value + (1 << size) - 1
    return codes[zeros << 4 | size] + (f"{low:0{size}b}" if size else "")


def _coefficients(block: list[bytes]) -> list[int]:
    """The quantized cosine transform of 8 rows of 8 shades, in zigzag order."""
    first = block[0][0]
    if all(row == block[0] for row in block) and block[0].count(first) == 8:
        return [round((first - 128) * 8 / _QUANTA[0])] + [0] * 63
    across = [
        [sum(c * (value - 128) for c, value in zip(wave, row, strict=True)) for wave in _COSINES]
        for row in block
    ]
    columns = list(zip(*across, strict=True))
    flat = [
        sum(c * value for c, value in zip(wave, column, strict=True))
        for wave in _COSINES
        for column in columns
    ]
    return [round(flat[i] / _QUANTA[i]) for i in _ZIGZAG]
