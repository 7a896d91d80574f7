"""The README's pictures lose colours that nobody sees, and nothing else."""

import base64

from playwright.sync_api import Page

from e2e.palette import reduced

_BAND = '<div style="height:20px;background:rgb({},{},{})"></div>'
_READ = """
async (picture) => {
  const image = new Image();
  image.src = 'data:image/png;base64,' + picture;
  await image.decode();
  const canvas = new OffscreenCanvas(image.width, image.height);
  const context = canvas.getContext('2d');
  context.drawImage(image, 0, 0);
  const at = (y) => Array.from(context.getImageData(image.width - 1, y, 1, 1).data.slice(0, 3));
  return {size: [image.width, image.height], pixels: [10, 30, 50].map(at)};
}
"""


def test_a_picture_keeps_its_size_and_its_colours(page: Page) -> None:
    bands = [(250, 250, 252), (43, 80, 170), (200, 30, 10)]
    page.set_viewport_size({"width": 333, "height": 60})
    page.set_content("<body style='margin:0'>" + "".join(_BAND.format(*one) for one in bands))
    picture = reduced(page, page.screenshot())
    found = page.evaluate(_READ, base64.b64encode(picture).decode())
    assert found == {"size": [333, 60], "pixels": [list(one) for one in bands]}


def test_a_picture_of_many_colours_keeps_each_hue_however_rare(page: Page) -> None:
    page.set_viewport_size({"width": 600, "height": 60})
    page.set_content(
        "<body style='margin:0;height:60px;background:linear-gradient(90deg,#000,#fff 90%,#f00)'>"
    )
    before = page.screenshot()
    found = page.evaluate(_READ, base64.b64encode(reduced(page, before)).decode())
    true = page.evaluate(_READ, base64.b64encode(before).decode())
    assert found["size"] == true["size"]
    for got, wanted in zip(found["pixels"], true["pixels"], strict=True):
        assert max(abs(one - other) for one, other in zip(got, wanted, strict=True)) <= 40
