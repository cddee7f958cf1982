"""The demo site: what it serves is what a real site could."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys

import pytest
import requests

from xkcdfs.demo import Site, encoders
from xkcdfs.demo.comics import LATEST, MISSING, comic
from xkcdfs.demo.drawing import draw

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")

FORMATS = {"png": "PNG", "jpg": "JPEG", "gif": "GIF"}
NUMBERS = [n for n in range(1, LATEST + 1) if n != MISSING]


@pytest.mark.parametrize("number", [1, 4, 23, 61, 96, 404 + 1, 859, 961, 1116, 1446, 1690])
def test_images_decode(site: Site, number: int) -> None:
    found = site.comic(number)
    response = requests.get(f"{site.url}/comics/{found.file}", timeout=10)
    image = Image.open(io.BytesIO(response.content))
    assert image.format == FORMATS[found.kind]
    assert f"image/{image.format.lower()}" == response.headers["Content-Type"]
    for frame in range(getattr(image, "n_frames", 1)):
        image.seek(frame)
        shades = image.convert("L").getextrema()
        assert shades[0] < 64 < 192 < shades[1]
    assert image.width >= 300


def test_the_program_file_knows_the_formats(tmp_path, site: Site) -> None:
    if not shutil.which("file"):
        pytest.skip("the program file is not installed")
    for number, name in ((1, "JPEG image data"), (96, "PNG image data"), (961, "GIF image data")):
        path = tmp_path / str(number)
        path.write_bytes(site.image(number))
        run = subprocess.run(["file", "-b", path], capture_output=True, text=True, check=True)
        assert run.stdout.startswith(name)


@pytest.mark.parametrize("shape", [(1, 1), (7, 9), (8, 8), (17, 300), (301, 5), (255, 254)])
@pytest.mark.parametrize("noisy", [False, True])
def test_encoders_keep_every_pixel(shape: tuple[int, int], noisy: bool) -> None:
    width, height = shape
    palette = [(255 - 2 * i, 255 - i, 255 - 2 * i) for i in range(100)]
    pixels = bytes(
        (x * 7919 + y * 104729 + x * y) % 97 if noisy else (x // 9 + y // 5) % 97
        for y in range(height)
        for x in range(width)
    )
    colours = [palette[pixel] for pixel in pixels]

    def seen(image):
        flat = image.convert("RGB").tobytes()
        return list(zip(flat[::3], flat[1::3], flat[2::3], strict=True))

    png = Image.open(io.BytesIO(encoders.png(width, height, pixels, palette)))
    assert png.size == shape
    assert seen(png) == colours
    gif = Image.open(io.BytesIO(encoders.gif(width, height, [pixels, pixels[::-1]], palette, 10)))
    assert seen(gif) == colours
    gif.seek(1)
    assert seen(gif) == colours[::-1]
    jpg = Image.open(io.BytesIO(encoders.jpeg(width, height, pixels, palette)))
    assert jpg.size == shape
    if not noisy:
        grey = [(299 * r + 587 * g + 114 * b) / 1000 for r, g, b in colours]
        off = [abs(a - b) for a, b in zip(jpg.convert("L").tobytes(), grey, strict=True)]
        assert sum(off) / len(off) < 4


def test_drawings_are_the_same_each_time() -> None:
    first = draw(42, "A Title", "png")
    draw.cache_clear()
    assert draw(42, "A Title", "png") == first
    assert draw(43, "A Title", "png") != first


def test_double_resolution_is_double(site: Site) -> None:
    found = site.comic(1700)
    sizes = [
        Image.open(io.BytesIO(requests.get(f"{site.url}/comics/{name}", timeout=10).content)).size
        for name in (found.file, found.file_2x)
    ]
    assert sizes[1] == (2 * sizes[0][0], 2 * sizes[0][1])


def test_every_oddity_is_there() -> None:
    comics = {number: comic(number) for number in NUMBERS}
    files = [found.file for found in comics.values() if found.file]
    records = {number: found.record("http://x") for number, found in comics.items()}
    titles = [found.title for found in comics.values()]
    dates = [found.date for found in comics.values()]
    assert {found.kind for found in comics.values()} == {"png", "jpg", "gif"}
    assert any("_(1)." in name for name in files)
    assert {"(.png", "%3F%3F%3F.png"} <= set(files)
    assert len(files) > len(set(files))
    assert any(not found.file for found in comics.values())
    assert any(found.has_2x for found in comics.values())
    assert len(titles) > len(set(titles))
    assert any(found.title != found.safe_title for found in comics.values())
    assert any("/" in title for title in titles)
    assert any("\u202e" in title for title in titles)
    assert any(title.startswith(".") for title in titles)
    assert any(title.isdigit() for title in titles)
    assert any(not found.alt for found in comics.values())
    assert any("extra_parts" in record for record in records.values())
    assert any(records[n]["transcript"] != comics[n].transcript for n in range(1, 1600) if n != 404)
    assert records[1620]["transcript"] == comics[1618].transcript != ""
    assert records[1670]["transcript"] == comics[1667].transcript != ""
    assert dates == sorted(dates)
    assert len(dates) > len(set(dates))
    assert any(len(record["month"]) == 1 for record in records.values())


def test_a_missing_comic_is_a_page_of_html(site: Site) -> None:
    for path in ("/404/info.0.json", "/0/info.0.json", f"/{LATEST + 1}/info.0.json", "/comics/x"):
        response = requests.get(site.url + path, timeout=10)
        assert response.status_code == 404
        assert response.headers["Content-Type"] == "text/html"


def test_conditional_requests(site: Site) -> None:
    url = f"{site.url}/5/info.0.json"
    given = requests.get(url, timeout=10).headers
    for header, value in (("If-None-Match", given["ETag"]),
                          ("If-Modified-Since", given["Last-Modified"])):  # fmt: skip
        response = requests.get(url, headers={header: value}, timeout=10)
        assert (response.status_code, response.content) == (304, b"")
    changed = requests.get(url, headers={"If-None-Match": '"other"'}, timeout=10)
    assert changed.status_code == 200
    assert site.not_modified["/5/info.0.json"] == 2
    assert site.requests["/5/info.0.json"] == 4


def test_an_image_that_follows_the_clock() -> None:
    now = 0.0
    with Site(clock=lambda: now) as site:
        midnight = site.image(1335)
        now = 60.0
        assert site.image(1335) == midnight
        now = 6 * 3600.0
        assert site.image(1335) != midnight


def test_comics_are_added_and_edited_while_it_runs(own_site: Site) -> None:
    number = own_site.add()
    assert number == LATEST + 1
    own_site.retitle(5, "Another Title")
    newest = requests.get(f"{own_site.url}/info.0.json", timeout=10).json()
    assert newest["num"] == number
    assert requests.get(newest["img"], timeout=10).status_code == 200
    page = requests.get(f"{own_site.url}/archive/", timeout=10).text
    assert f'<a href="/{number}/"' in page
    assert ">Another Title</a>" in page


def test_it_stops_and_starts_on_the_same_port(own_site: Site) -> None:
    url = own_site.url
    own_site.stop()
    with pytest.raises(requests.ConnectionError):
        requests.get(url, timeout=10)
    own_site.start()
    assert own_site.url == url
    assert requests.get(url, timeout=10).status_code == 200


def test_it_serves_alone() -> None:
    command = [sys.executable, "-m", "xkcdfs.demo"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            url = process.stdout.readline().strip()
            assert requests.get(f"{url}info.0.json", timeout=10).json()["num"] == LATEST
        finally:
            process.kill()
