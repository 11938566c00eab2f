"""One encoded sound → samples.

What enters: the bytes of a wav, flac, ogg (Vorbis, Opus), mp3, aiff or au file. What leaves: float32 samples, full
scale ±1, or an `AudioFault` that says why there are none. Invariant: the same bytes give the same samples on every
call; no more memory is asked for than `max_bytes`, whatever a header claims.

The decoder is libsndfile 1.2 as the wheel of `soundfile` bundles it (with libFLAC, libvorbis, libopus and mpg123); it
releases the GIL while it decodes. A sound is read from its beginning in one call: soundfile seeks after each read, and
in MP3 a seek is not exact (blocks of 1,000 frames differ from the whole by up to 0.15 of full scale).
"""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, final

from datapipe.errors import ConfigError
from datapipe.steps.audio_formats import CONTAINERS, container_of, flac_counts, missing
from datapipe.steps.audio_memory import file_of, give_back
from datapipe.steps.audio_mpeg import counted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import ModuleType

    import numpy as np
    import numpy.typing as npt

MAX_BYTES: Final = 1 << 30
"""Of one sound's samples as float32: 93 minutes of 48 kHz mono."""
_MOST_CHANNELS: Final = 64
_UNKNOWN: Final = (1 << 63) - 1
"""Frames that libsndfile gives for a FLAC whose encoder wrote to a pipe; soundfile cannot read one to its end."""
MP3_SLACK: Final = 2 * 1152
"""Frames of an MP3 that may be missing: a decoder's delay of 529 samples and the padding of the last of its frames of
1,152 are counted by some encoders and not by others. (A file of the Google Cloud SDK's tests lacks 210.)"""

EMPTY: Final = "audio_empty"
NOT_AUDIO: Final = "not_audio"
WRONG_FORMAT: Final = "audio_format"
TRUNCATED: Final = "audio_truncated"
BROKEN: Final = "audio_broken"
BOMB: Final = "audio_bomb"
NON_FINITE: Final = "audio_not_finite"
FAULTS: Final = (EMPTY, NOT_AUDIO, WRONG_FORMAT, TRUNCATED, BROKEN, BOMB, NON_FINITE)
"""Why a sound is quarantined: no bytes or no frames; none of the known containers; one that was not asked for; ends
before its header says; the decoder gives up; samples beyond the bound; NaN or infinity among them."""


class AudioFault(Exception):  # noqa: N818  (it names a fault of the data, not an error of ours)
    """A sound that cannot be read. `reason` is one of FAULTS, `detail` says more."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Sound:
    """Samples of one sound.

    Attributes:
        samples: float32[frames, channels], full scale ±1. rate: frames a second.
    """

    samples: npt.NDArray[np.float32]
    rate: int

    @property
    def frames(self) -> int:
        """Samples of each channel."""
        return len(self.samples)

    @property
    def channels(self) -> int:
        """Channels."""
        return int(self.samples.shape[1])


@final
@dataclass(frozen=True, kw_only=True)
class Head:
    """What a header says.

    Attributes:
        rate: frames a second. frames, channels: of it. exact: there are so many frames, unless the file is cut. An MP3
            may have a few less.
    """

    rate: int
    frames: int
    channels: int
    exact: bool


def library() -> ModuleType:
    """The module `soundfile`.

    Raises:
        ConfigError: it is not installed, or its libsndfile is not there.
    """
    try:
        import soundfile
    except (ImportError, OSError) as error:
        raise ConfigError(
            f"soundfile cannot be imported ({error})",
            expected="the package that decodes and encodes sound",
            fix="pip install 'datapipe-toolkit[audio]'",
        ) from error
    module: ModuleType = soundfile
    return module


def peak_of(samples: npt.NDArray[np.float32]) -> float:
    """The largest sample's size.

    Raises:
        AudioFault: a sample is no number, or infinite.
    """
    import numpy as np

    # Both pass a NaN on, and read the samples once each without a copy.
    peak = max(float(samples.max()), -float(samples.min()))
    if not np.isfinite(peak):
        bad = int(np.count_nonzero(~np.isfinite(samples)))
        raise AudioFault(NON_FINITE, f"{bad:,} samples are NaN or infinite")
    return peak


@final
class OpenSound:
    """A sound whose header was read: it is decoded when asked for, once.

    Args:
        formats: containers that are taken. max_bytes: of its samples. whole: refuse a sound that ends too early.
        later: a FLAC says itself how long it is: its decoder is opened when it is read, and what is wrong is said then.
            (Sixteen decoders held open at once took 0.1 ms a sound for their memory, which the next batch took anew.)

    Attributes:
        head: what the header says.

    Raises:
        AudioFault: it cannot be read. ConfigError: soundfile is not installed.
    """

    def __init__(
        self,
        data: bytes | None,
        *,
        formats: Sequence[str] = CONTAINERS,
        max_bytes: int = MAX_BYTES,
        whole: bool = True,
        later: bool = False,
    ) -> None:
        if not data:
            raise AudioFault(EMPTY, "no bytes")
        container = container_of(data)
        if container is None:
            raise AudioFault(NOT_AUDIO, f"begins with {data[:12]!r}, the mark of none of {', '.join(CONTAINERS)}")
        if container not in formats:
            raise AudioFault(WRONG_FORMAT, f"{container}; taken are {', '.join(formats)}")
        if whole and (lack := missing(data, container)):
            raise AudioFault(TRUNCATED, lack)
        self._data = data
        self._container = container
        self._whole = whole
        self._max_bytes = max_bytes
        self._library = library()
        self._file: Any = None
        self._source: io.BytesIO | io.FileIO | None = None
        if later and container == "flac" and (counts := flac_counts(data)) is not None:
            rate, channels, frames = counts
            self.head = Head(rate=rate, frames=frames, channels=channels, exact=True)
            self._check_head()
        else:
            self._open()

    def _open(self) -> None:
        """Open the decoder, and read the header with it."""
        container, data = self._container, self._data
        # A wav is read in large pieces: through Python as well.
        source = io.BytesIO(data) if container == "wav" else file_of(counted(data) if container == "mp3" else data)
        self._source = source
        try:
            with self._faults():
                opened = source.fileno() if isinstance(source, io.FileIO) else source
                self._file = self._library.SoundFile(opened, closefd=False)
                self.head = Head(
                    rate=int(self._file.samplerate),
                    frames=int(self._file.frames),
                    channels=int(self._file.channels),
                    exact=container != "mp3",
                )
            self._check_head()
        except BaseException:
            self.close()
            raise

    def _check_head(self) -> None:
        head = self.head
        if head.frames == _UNKNOWN:
            raise AudioFault(BROKEN, f"a {self._container} that does not say how long it is: it was made as a stream")
        if head.frames * head.channels * 4 > self._max_bytes or head.channels > _MOST_CHANNELS:
            raise AudioFault(BOMB, f"the header claims {head.frames:,} frames of {head.channels} channels")
        if head.frames <= 0:
            raise AudioFault(EMPTY, "no frames")

    def close(self) -> None:
        """Let the decoder and its file go; what was read stays."""
        source, self._source = self._source, None  # given back once: it is another sound's from there on
        if self._file is not None:
            self._file.close()
        if source is not None:
            give_back(source)

    def read(self, out: npt.NDArray[np.float32] | None = None) -> Sound:
        """The samples: in new memory, or in `out`, float32[head.frames] or float32[head.frames, head.channels].

        Raises:
            AudioFault: it cannot be decoded, ends before the header says, or holds what is no number.
        """
        told = self.head
        if self._file is None:
            self._open()
        frames, channels = self.head.frames, self.head.channels
        try:
            if self.head != told:
                raise AudioFault(BROKEN, f"{told} by its first block, {self.head} to the decoder")
            with self._faults():
                if out is None:
                    samples = self._file.read(dtype="float32", always_2d=True)
                else:
                    samples = self._file.read(dtype="float32", out=out).reshape(-1, channels)
        finally:
            self.close()
        if len(samples) < (frames if self.head.exact else frames - MP3_SLACK) and self._whole:
            raise AudioFault(TRUNCATED, f"{len(samples):,} of {frames:,} frames")
        if not len(samples):
            raise AudioFault(EMPTY, "no frames")
        if not self._file.subtype.startswith("PCM"):  # whole numbers are numbers
            peak_of(samples)
        return Sound(samples=samples, rate=self.head.rate)

    @contextlib.contextmanager
    def _faults(self) -> Iterator[None]:
        """What the decoder raises as an AudioFault."""
        try:
            yield
        except MemoryError as error:
            raise AudioFault(BOMB, f"{error}") from error
        except (self._library.LibsndfileError, RuntimeError, ValueError, TypeError, OverflowError) as error:
            # A FLAC that is cut loses sync at its end; one that is damaged loses it before.
            source = self._source
            ended = self._container == "flac" and source is not None and source.tell() >= len(self._data)
            said = getattr(error, "error_string", None) or str(error)
            raise AudioFault(TRUNCATED if ended else BROKEN, str(said)[:200]) from error


def read_head(data: bytes | None, *, max_bytes: int = MAX_BYTES) -> Head:
    """What the header says of a sound that was checked before: nothing is decoded. Raises as `OpenSound`."""
    opened = OpenSound(data, max_bytes=max_bytes, whole=False)
    opened.close()
    return opened.head


def read_sound(
    data: bytes | None, *, formats: Sequence[str] = CONTAINERS, max_bytes: int = MAX_BYTES, whole: bool = True
) -> Sound:
    """The samples of a sound. Arguments and errors are those of `OpenSound`."""
    return OpenSound(data, formats=formats, max_bytes=max_bytes, whole=whole).read()
