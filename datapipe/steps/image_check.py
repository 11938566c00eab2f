"""image_check: every picture is looked at, and decoded; what is none is quarantined, what is odd is counted.

What enters: `image` (encoded bytes), and `path` where there is one. What leaves: the same rows with `width`, `height`
(int32, upright), `format` and `mode` (of the pixels as stored), and where pictures are decoded `phash: int64`
(`image_hash`). Invariant: of a row that stays `decode_image` gives height × width pixels; what its header alone says is
not believed unless `decode` is off; bytes change only where an option says "convert".

What is odd (animated, turned by Exif, CMYK, more than 8 bits, transparent, named otherwise than it is) is decoded in
the one way that `image_decode` has; each is counted in the report, and can be dropped, or converted: decoded, and
encoded anew upright, in RGB, of 8 bits, one frame (JPEG stays JPEG, all else becomes PNG, which loses nothing more).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

from datapipe.errors import DecodeError
from datapipe.steps.columns import file_bytes, mark, set_column
from datapipe.steps.image_bytes import HEIGHT, IMAGE, PATH, WIDTH, images
from datapipe.steps.image_encode import QUALITY, encode_image, form_for
from datapipe.steps.image_head import MAX_PIXELS, REASONS, read_head
from datapipe.steps.options import in_range
from datapipe.steps.step import DETAIL, StepSpec

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

    from datapipe.steps.image_head import ImageHead
    from datapipe.steps.step import Keys, Step

PHASH: Final = "phash"
ODD: Final = ("animated", "rotated", "cmyk", "deep", "alpha", "wrong_suffix")
SIGNALS: Final = tuple(f"image.{name}" for name in ODD)
TOO_SMALL: Final = "image_too_small"
Policy = Literal["keep", "drop", "convert"]

_SUFFIXES: Final = {
    "jpg": "jpeg", "jpeg": "jpeg", "jpe": "jpeg", "jfif": "jpeg", "png": "png", "gif": "gif", "webp": "webp",
    "bmp": "bmp", "tif": "tiff", "tiff": "tiff", "ppm": "ppm", "pgm": "ppm", "pbm": "ppm", "pnm": "ppm", "avif": "avif",
    "jp2": "jpeg 2000", "ico": "icon", "tga": "targa",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ImageCheckOptions:
    """Options of image_check.

    Attributes:
        decode: decode every picture: all that its file holds, to pixels at no larger a scale than the hash needs.
            False: headers alone are read, and a picture that is cut or damaged behind its header is found out by
            whoever decodes it.
        phash: of what is decoded, the perceptual hash, which image_duplicates takes instead of decoding again.
        max_pixels: width times height above which a picture is quarantined before a pixel is decoded (a decompression
            bomb); three bytes a pixel are what decoding takes.
        min_side: of width and height the lesser; pictures with less are dropped.
        animated, rotated, cmyk, deep, alpha: what becomes of a picture of several frames; that Exif turns; in CMYK; of
            more than 8 bits a colour; with transparency. "keep": it stays as it is. "drop". "convert": see the module.
        wrong_suffix: what becomes of a picture whose path ends as another format's do: "keep" or "drop".
        quality: of JPEGs that are converted.
    """

    decode: bool = True
    phash: bool = True
    max_pixels: int = MAX_PIXELS
    min_side: int = 1
    animated: Policy = "keep"
    rotated: Policy = "keep"
    cmyk: Policy = "keep"
    deep: Policy = "keep"
    alpha: Policy = "keep"
    wrong_suffix: Literal["keep", "drop"] = "keep"
    quality: int = QUALITY

    def __post_init__(self) -> None:
        in_range("image_check.max_pixels", self.max_pixels, 1)
        in_range("image_check.min_side", self.min_side, 1)
        in_range("image_check.quality", self.quality, 1, 100)


@dataclass(kw_only=True)
class _Seen:
    """What is found of one row."""

    head: ImageHead | None = None
    odd: tuple[str, ...] = ()
    phash: int | None = None
    bad: str | None = None
    drop: str | None = None
    detail: str | None = None
    new: bytes | None = None


def image_check(table: pa.Table, keys: Keys, *, options: ImageCheckOptions) -> pa.Table:
    """Look at every picture.

    Args:
        table: `image: large_binary`; perhaps `path: string`.
        keys: not used.
        options: see ImageCheckOptions.

    Returns:
        The table with `width`, `height: int32`, `format`, `mode: string`, `phash: int64` (where decoded), null in rows
        that are marked; and for each kind of `ODD` the signal `image.<kind>: int32`, 0 or 1.

    Raises:
        ConfigError: a decoder is not installed.
    """
    del keys
    import pyarrow as pa

    column = file_bytes(table, IMAGE)
    paths = table.column(PATH).to_pylist() if PATH in table.column_names else [None] * table.num_rows
    seen = [_look(data, path, options) for data, path in zip(images(column), paths, strict=True)]
    if any(row.new is not None for row in seen) or table.column(IMAGE).type != column.type:
        pairs = zip(seen, images(column), strict=True)
        table = set_column(table, IMAGE, pa.array([row.new or data for row, data in pairs], pa.large_binary()))
    heads = [row.head for row in seen]
    table = set_column(table, WIDTH, pa.array([h and h.width for h in heads], pa.int32()))
    table = set_column(table, HEIGHT, pa.array([h and h.height for h in heads], pa.int32()))
    table = set_column(table, "format", pa.array([h and h.format for h in heads], pa.string()))
    table = set_column(table, "mode", pa.array([h and h.mode for h in heads], pa.string()))
    if options.decode and options.phash:
        table = set_column(table, PHASH, pa.array([row.phash for row in seen], pa.int64()))
    for kind, signal in zip(ODD, SIGNALS, strict=True):
        table = set_column(table, signal, pa.array([int(kind in row.odd) for row in seen], pa.int32()))
    if any(row.detail for row in seen):
        table = set_column(table, DETAIL, pa.array([row.detail for row in seen], pa.string()))
    table = mark(table, pa.array([row.bad for row in seen], pa.string()), quarantine=True)
    return mark(table, pa.array([row.drop for row in seen], pa.string()))


def _look(data: memoryview | None, path: str | None, options: ImageCheckOptions) -> _Seen:
    """What one picture is, and what becomes of it."""
    from datapipe.steps.image_decode import check_size

    try:
        head = read_head(data if data is not None else b"")
        check_size(head.width, head.height, options.max_pixels)
        assert data is not None
        odd = tuple(_odd(head, path))
        seen = _Seen(head=head, odd=odd)
        policies = {kind: getattr(options, kind) for kind in odd}
        dropped = [kind for kind, policy in policies.items() if policy == "drop"]
        if min(head.width, head.height) < options.min_side:
            seen.drop, seen.detail = TOO_SMALL, f"{head.width} × {head.height}"
        elif dropped:
            seen.drop, seen.detail = f"image_{dropped[0]}", _told(dropped[0], head, path)
        if seen.drop is None and (options.decode or "convert" in policies.values()):
            _decode(data, seen, options, convert="convert" in policies.values())
    except DecodeError as error:
        return _Seen(bad=f"image_{error.reason}", detail=str(error.got)[:200])
    return seen


def _decode(data: memoryview, seen: _Seen, options: ImageCheckOptions, *, convert: bool) -> None:
    """Decode the picture; its hash, and where it is converted its new bytes, go into `seen`."""
    from datapipe.steps.image_decode import decode_image
    from datapipe.steps.image_hash import ENOUGH, image_hash

    assert seen.head is not None
    # A JPEG's damage shows as its coefficients are read, whatever the scale they are then turned into pixels at.
    enough = None if convert else (ENOUGH, ENOUGH) if options.phash else (1, 1)
    pixels = decode_image(data, enough, max_pixels=options.max_pixels, head=seen.head)
    head = seen.head
    if head.format != "jpeg" or convert:
        head = replace(head, width=pixels.shape[1], height=pixels.shape[0])
    if options.decode and options.phash:
        seen.phash = image_hash(pixels, data)
    if convert:
        form = form_for(head.format)
        seen.new = encode_image(pixels, form, options.quality)
        head = replace(head, format=form, mode="RGB", orientation=1, animated=False, alpha=False, deep=False)
    seen.head = head


def _odd(head: ImageHead, path: str | None) -> Iterator[str]:
    """Which of `ODD` a picture is."""
    found = {
        "animated": head.animated,
        "rotated": head.orientation != 1,
        "cmyk": head.mode == "CMYK",
        "deep": head.deep,
        "alpha": head.alpha,
        "wrong_suffix": path is not None and _promised(path) not in (None, head.format),
    }
    return (kind for kind in ODD if found[kind])


def _promised(path: str) -> str | None:
    """The format that a path's ending promises; None where it promises none."""
    return _SUFFIXES.get(path.rpartition("/")[2].rpartition(".")[2].lower())


def _told(kind: str, head: ImageHead, path: str | None) -> str:
    known: dict[str, Any] = {"rotated": f"orientation {head.orientation}", "wrong_suffix": f"{path} is {head.format}"}
    return str(known.get(kind, f"{head.format}, {head.mode}"))


def build(options: ImageCheckOptions) -> Step:
    """The step with its options bound."""
    return partial(image_check, options=options)


def resolve(spec: StepSpec, options: ImageCheckOptions) -> StepSpec:
    """Without decoding there is no hash."""
    return (
        spec
        if options.decode and options.phash
        else replace(spec, gives=tuple(name for name in spec.gives if name != PHASH))
    )


SPEC: Final = StepSpec(
    name="image_check",
    version=2,
    kind="map",
    options=ImageCheckOptions,
    build=build,
    summary="pictures decoded and measured; broken ones quarantined, odd ones counted, dropped or converted",
    reasons=(*(f"image_{reason}" for reason in REASONS), TOO_SMALL, *(f"image_{kind}" for kind in ODD)),
    needs=(IMAGE,),
    gives=(IMAGE, WIDTH, HEIGHT, "format", "mode", PHASH),
    signals=SIGNALS,
    counters=SIGNALS,
    resolve=resolve,
)
