"""A corpus of JPEGs, and their decoding: 8,000 of 30 to 60 kB, as one file of bytes, as Arrow and as Parquet.

What enters: a folder. What leaves: the corpus, the one function that all decode with, and how a delivered batch is
looked at. Invariant: an image comes with its number, and the sum of all pixels times number tells one that was changed
or mistaken for another. The decoder is simplejpeg where it is installed, else Pillow; both read at the least scale that
gives 224 pixels, and then the middle.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

SEED: Final = 0
SIDE: Final = 224
GROUP: Final = 250
DECODERS: Final = ("simplejpeg", "PIL")
LEAST: Final = 30_000
MOST: Final = 60_000


def find_decoder() -> str | None:
    """The first decoder that is installed."""
    return next((name for name in DECODERS if importlib.util.find_spec(name) is not None), None)


@dataclass(frozen=True, kw_only=True)
class Corpus:
    rows: int
    folder: Path
    total: int
    decoder: str

    @property
    def ends(self) -> np.ndarray:
        return np.load(self.folder / "ends.npy")

    @property
    def flat(self) -> memoryview:
        return memoryview(np.memmap(self.folder / "images.bin", np.uint8, "r"))

    @property
    def decode(self) -> Callable[[Any], np.ndarray]:
        """JPEG → uint8 [224, 224, 3]."""
        return with_simplejpeg if self.decoder == "simplejpeg" else with_pillow


def with_simplejpeg(data: Any) -> np.ndarray:
    import simplejpeg

    return middle(simplejpeg.decode_jpeg(data, "RGB", min_height=SIDE, min_width=SIDE))


def with_pillow(data: Any) -> np.ndarray:
    import io

    from PIL import Image

    image = Image.open(io.BytesIO(data))
    image.draft("RGB", (SIDE, SIDE))  # the least scale that is not smaller
    return middle(np.asarray(image.convert("RGB")))


def middle(image: np.ndarray) -> np.ndarray:
    top, left = (image.shape[0] - SIDE) // 2, (image.shape[1] - SIDE) // 2
    return image[top : top + SIDE, left : left + SIDE]


def pixels(image: np.ndarray, out: np.ndarray) -> None:
    """Into float32 [3, 224, 224], from 0 to 1."""
    np.multiply(image.transpose(2, 0, 1), np.float32(1 / 255), out=out, dtype=np.float32, casting="unsafe")


def batch_of(images: Sequence[Any], decode: Callable[[Any], np.ndarray]) -> np.ndarray:
    """JPEGs → float32 [n, 3, 224, 224]."""
    return fill(np.empty((len(images), 3, SIDE, SIDE), np.float32), images, decode)


def fill(out: np.ndarray, images: Sequence[Any], decode: Callable[[Any], np.ndarray]) -> np.ndarray:
    """The same, into memory that is given."""
    for data, target in zip(images, out, strict=True):
        pixels(decode(data), target)
    return out


def sample_of(data: Any, decode: Callable[[Any], np.ndarray]) -> np.ndarray:
    """JPEG → float32 [3, 224, 224], for loaders that work sample by sample."""
    out = np.empty((3, SIDE, SIDE), np.float32)
    pixels(decode(data), out)
    return out


def make_corpus(folder: Path, quick: bool) -> Corpus:
    """Write what is not there yet. The last file to be written marks the corpus as whole."""
    decoder = find_decoder()
    if decoder is None:
        raise ModuleNotFoundError(f"no JPEG decoder: pip install {DECODERS[0]}")
    rows = 256 if quick else 8000
    folder = folder / f"images-{rows}-{decoder}-v1"
    done = folder / "sum.txt"
    if not done.exists():
        for name in ("arrow", "parquet"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        corpus = Corpus(rows=rows, folder=folder, total=0, decoder=decoder)
        draw = Drawing(np.random.default_rng(SEED), decoder)
        schema = pa.schema([("id", pa.int64()), ("jpeg", pa.binary())])
        total, ends, at = 0, [0], 0
        with (
            (folder / "images.bin").open("wb") as flat,
            pa.OSFile(str(folder / "arrow" / "images.arrow"), "wb") as sink,
            pa.ipc.new_file(sink, schema) as ipc,
            pq.ParquetWriter(
                folder / "parquet" / "images.parquet", schema, compression="none", use_dictionary=["id"]
            ) as parquet,
        ):
            for start in range(0, rows, GROUP):
                ids = np.arange(start, min(start + GROUP, rows))
                images = [draw.jpeg() for _ in ids]
                total += checksum(ids, batch_of(images, corpus.decode))
                ends += (at + np.cumsum([len(each) for each in images])).tolist()
                at = ends[-1]
                flat.write(b"".join(images))
                batch = pa.record_batch([pa.array(ids), pa.array(images, pa.binary())], schema=schema)
                ipc.write_batch(batch)
                parquet.write_batch(batch, GROUP)
        np.save(folder / "ends.npy", np.array(ends, np.int64))
        done.write_text(str(total))
    return Corpus(rows=rows, folder=folder, total=int(done.read_text()), decoder=decoder)


class Drawing:
    """Images of the sizes and bytes of photographs: gradients, patches and grain, 320 to 480 pixels a side."""

    def __init__(self, rng: np.random.Generator, decoder: str) -> None:
        self._rng = rng
        self._decoder = decoder
        coarse = rng.normal(0, 40, (70, 70, 3))
        self._patches = np.kron(coarse, np.ones((16, 16, 1))).astype(np.float32)
        self._grain = rng.normal(0, 1, (1120, 1120, 3)).astype(np.float32)

    def jpeg(self) -> bytes:
        """One of 30 to 60 kB: with as much grain as that takes."""
        rng = self._rng
        height, width = rng.integers(320, 481, 2).tolist()
        across, down = np.linspace(0, 1, width, dtype=np.float32), np.linspace(0, 1, height, dtype=np.float32)
        slopes = rng.uniform(-90, 90, (2, 3)).astype(np.float32)
        image = 128 + across[None, :, None] * slopes[0] + down[:, None, None] * slopes[1]
        image += self._part(self._patches, height, width)
        grain = self._part(self._grain, height, width)
        wanted = int(rng.integers(LEAST, MOST))
        low, high = 0.0, 60.0
        for _ in range(12):
            strength = (low + high) / 2
            data = self._encode(np.clip(image + strength * grain, 0, 255).astype(np.uint8))
            if LEAST <= len(data) <= MOST and abs(len(data) - wanted) < 4000:
                break
            low, high = (low, strength) if len(data) > wanted else (strength, high)
        return data

    def _part(self, whole: np.ndarray, height: int, width: int) -> np.ndarray:
        top, left = self._rng.integers(0, [whole.shape[0] - height, whole.shape[1] - width]).tolist()
        return whole[top : top + height, left : left + width]

    def _encode(self, image: np.ndarray) -> bytes:
        if self._decoder == "simplejpeg":
            import simplejpeg

            return bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(image), 85, "RGB", "420"))
        import io

        from PIL import Image

        out = io.BytesIO()
        Image.fromarray(image).save(out, "JPEG", quality=85)
        return out.getvalue()


def checksum(ids: np.ndarray, images: np.ndarray) -> int:
    """Of every pixel, tied to the image's number."""
    if images.dtype != np.float32 or images.shape[1:] != (3, SIDE, SIDE):
        raise ValueError(f"delivered {images.dtype} {images.shape}")
    levels = [int(np.rint(image * 255).sum(dtype=np.int64)) for image in images]
    return sum((int(at) + 1) * level for at, level in zip(ids, levels, strict=True))


def look(batch: Any) -> tuple[np.ndarray, int]:
    ids, images = np.asarray(batch[0]), np.asarray(batch[1])
    return ids, checksum(ids, images)


@final
class JpegAt:
    """Number → its row, from the file of bytes; may be pickled for a process that writes another format."""

    def __init__(self, corpus: Corpus) -> None:
        self._path, self._ends = corpus.folder / "images.bin", corpus.ends

    def __call__(self, at: int) -> dict[str, Any]:
        with self._path.open("rb") as file:
            file.seek(int(self._ends[at]))
            return {"id": at, "jpeg": file.read(int(self._ends[at + 1] - self._ends[at]))}
