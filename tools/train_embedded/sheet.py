"""Pictures and captions in, one contact sheet out."""
import textwrap

from PIL import Image, ImageDraw

CELL, GAP, LINES = 128, 6, 26


def save(path, pictures, captions, columns=8):
    """Writes `pictures` (uint8 [s, s, 3]), enlarged to 128 pixels, with their captions under them."""
    rows = -(-len(pictures) // columns)
    page = Image.new("RGB", (columns * (CELL + GAP), rows * (CELL + LINES + GAP)), "white")
    draw = ImageDraw.Draw(page)
    for k, (picture, caption) in enumerate(zip(pictures, captions)):
        x, y = k % columns * (CELL + GAP), k // columns * (CELL + LINES + GAP)
        page.paste(Image.fromarray(picture).resize((CELL, CELL), Image.BICUBIC), (x, y))
        draw.text((x, y + CELL), "\n".join(textwrap.wrap(caption, 22)[:2]), fill="black")
    page.save(path)
