"""Make small pictures: a photograph of a page as a PNG of at most 256 colours."""

import base64
import struct
import zlib

from playwright.sync_api import Page

# The browser decodes the picture and counts its colours. One of each hue stays, however rare, then
# the most frequent; what lies between them (the edges of letters) takes the nearest.
_REDUCE = """
async (picture) => {
  const image = new Image();
  image.src = 'data:image/png;base64,' + picture;
  await image.decode();
  const canvas = new OffscreenCanvas(image.width, image.height);
  const context = canvas.getContext('2d');
  context.drawImage(image, 0, 0);
  const pixels = context.getImageData(0, 0, image.width, image.height).data;
  const counts = new Map();
  for (let at = 0; at < pixels.length; at += 4) {
    const colour = pixels[at] << 16 | pixels[at + 1] << 8 | pixels[at + 2];
    counts.set(colour, (counts.get(colour) || 0) + 1);
  }
  const kept = [];
  const match = (colour) => {
    let best = 0, least = Infinity;
    kept.forEach((other, index) => {
      const red = (colour >> 16) - (other >> 16);
      const green = (colour >> 8 & 255) - (other >> 8 & 255);
      const blue = (colour & 255) - (other & 255);
      const distance = red * red + green * green + blue * blue;
      if (distance < least) { least = distance; best = index; }
    });
    return [best, least];
  };
  const frequent = [...counts.entries()].sort((a, b) => b[1] - a[1]).map(([colour]) => colour);
  for (const apart of [1600, 1]) {
    for (const colour of frequent) {
      if (kept.length < 256 && match(colour)[1] >= apart) { kept.push(colour); }
    }
  }
  const nearest = new Map(frequent.map(colour => [colour, match(colour)[0]]));
  let indices = '';
  for (let at = 0; at < pixels.length; at += 4) {
    const colour = pixels[at] << 16 | pixels[at + 1] << 8 | pixels[at + 2];
    indices += String.fromCharCode(nearest.get(colour));
  }
  return {width: image.width, height: image.height, palette: kept, indices: btoa(indices)};
}
"""


def reduced(blank: Page, picture: bytes) -> bytes:
    """Return a PNG with a palette, drawn by the script of a blank page."""
    found = blank.evaluate(_REDUCE, base64.b64encode(picture).decode())
    width, height = found["width"], found["height"]
    indices = base64.b64decode(found["indices"])
    # One colour an index; a filter byte (0: none) begins each line.
    lines = b"".join(b"\0" + indices[line * width : (line + 1) * width] for line in range(height))
    palette = b"".join(struct.pack(">I", colour)[1:] for colour in found["palette"])
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        _chunk(name, body)
        for name, body in (
            (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
            (b"PLTE", palette),
            (b"IDAT", zlib.compress(lines, 9)),
            (b"IEND", b""),
        )
    )


def _chunk(name: bytes, body: bytes) -> bytes:
    check = zlib.crc32(name + body)
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", check)
