"""Sounds: a loader's transform that makes samples or spectrograms of encoded sounds.

What enters: a batch of encoded sounds, as `media_batch` says. What leaves: padded `samples` or `mel`, and their
lengths, in the sounds' place. Invariant: each row is what the steps `audio_decode`, `augment_audio`, `log_mel` and
`spec_augment` make of it, to the last bit.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, TypeVar, final

from datapipe.errors import ConfigError, DecodeError
from datapipe.steps.audio_bytes import AUDIO, SAMPLES
from datapipe.steps.audio_conditioning import Conditioning, conditioned
from datapipe.steps.audio_reading import AudioFault, OpenSound, Sound
from datapipe.steps.augment_audio import SPEC as AUGMENT
from datapipe.steps.augment_audio import AugmentAudioOptions, Changes
from datapipe.steps.log_mel import MEL, LogMelOptions, spectrogram
from datapipe.steps.log_mel import SPEC as LOG_MEL
from datapipe.steps.media_batch import encoded_column, row_keys, with_arrays
from datapipe.steps.options import options_from
from datapipe.steps.spec_augment import SPEC as MASK
from datapipe.steps.spec_augment import Masks, SpecAugmentOptions
from datapipe.steps.step import Keys

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    import numpy.typing as npt

    from datapipe.steps.step import StepSpec

    Floats = npt.NDArray[np.float32]

Options = TypeVar("Options")
_MOST_OPEN: Final = 32
"""Sounds of a batch that are opened before they are decoded: each holds a file descriptor."""


@final
class Sounds:
    """`DataLoader(..., transform=datapipe.Sounds(sample_rate=16000, mel={"n_mels": 80}))`: spectrograms [B, T, 80].

    Args:
        sample_rate: Hz: what has another rate is resampled; all channels are mixed to one.
        trim_db, loudness: as of the step audio_decode.
        augment: options of the step augment_audio; True: its defaults; None: nothing is changed.
        mel: options of the step log_mel (the rate is known); True: its defaults; None: samples are delivered.
        mask: options of the step spec_augment; True: its defaults; None: nothing is masked.
        column: of encoded sounds: binary, or struct<bytes, path>.

    The batch has `samples` float32 [B, longest], or `mel` float32 [B, longest, n_mels], padded with zeros, and
    `samples_lengths` or `mel_lengths` int64 [B]; columns as stored (`frames`, `sample_rate`) are left as they are.

    Raises:
        ConfigError: an option is unknown or out of range, or there is a mask and nothing that it could be laid on.
    """

    takes: ClassVar[Literal["columns"]] = "columns"

    def __init__(
        self,
        *,
        sample_rate: int = 16000,
        trim_db: float | None = None,
        loudness: float | None = None,
        augment: Mapping[str, Any] | bool | None = None,
        mel: Mapping[str, Any] | bool | None = None,
        mask: Mapping[str, Any] | bool | None = None,
        column: str = AUDIO,
    ) -> None:
        self.conditioning = Conditioning(sample_rate=sample_rate, mono=True, trim_db=trim_db, loudness=loudness)
        self.augment = _options(AUGMENT, AugmentAudioOptions, augment)
        rate = {"sample_rate": sample_rate}
        self.mel = _options(LOG_MEL, LogMelOptions, {**rate, **mel} if isinstance(mel, Mapping) else mel and rate)
        self.mask = _options(MASK, SpecAugmentOptions, mask)
        self.column = column
        if self.mel is not None and self.mel.sample_rate != sample_rate:
            raise ConfigError(
                f"mel.sample_rate = {self.mel.sample_rate}",
                expected=f"{sample_rate}, as sample_rate",
                fix="leave it out",
            )
        if self.mask is not None and self.mel is None:
            raise ConfigError("mask without mel", expected="spectrograms to be masked", fix="mel=True")

    def __call__(self, columns: dict[str, Any], keys: Any) -> dict[str, Any]:
        """The batch with samples or spectrograms; `columns` and `keys` as of `Images`.

        Raises:
            DecodeError: a sound cannot be decoded, or is null; the notes name its row.
            ConfigError: the column is missing, or a package is not installed.
        """
        import numpy as np

        encoded = encoded_column(columns, self.column, "sounds", "Sounds")
        ids = row_keys(columns, keys)
        drawn = Keys(seed=keys.seed, epoch=keys.epoch)
        rows = [self._opened(data, row, ids) for row, data in enumerate(encoded)]
        changes = None if self.augment is None else Changes(ids, drawn, self.augment)
        frames = np.array([each.head.frames if isinstance(each, OpenSound) else each.frames for each in rows], np.int64)
        name = SAMPLES if self.mel is None else MEL
        lengths = frames if self.mel is None else 1 + frames // self.mel.hop
        inner = () if self.mel is None else (self.mel.n_mels,)
        values = keys.empty((len(rows), int(lengths.max(initial=0)), *inner), np.float32)
        masks = None
        if self.mel is not None and self.mask is not None:
            masks = Masks(ids, lengths, self.mel.n_mels, drawn, self.mask)
        for row, (sound, length) in enumerate(zip(rows, lengths.tolist(), strict=True)):
            place = values[row, :length]
            with self._faults(row, ids):
                if self.mel is None:
                    self._write(sound, row, changes, place)
                else:
                    changed = np.empty(int(frames[row]), np.float32)
                    self._write(sound, row, changes, changed)
                    spectrogram(changed, self.mel, place)
            if masks is not None:
                masks.lay(row, place)
            values[row, length:] = 0
        return with_arrays(columns, self.column, {name: values, f"{name}_lengths": lengths})

    def _opened(self, data: Any, row: int, ids: list[str]) -> OpenSound | Sound:
        """A sound that is as asked for, yet to be decoded; another decoded and conditioned: its length follows."""
        with self._faults(row, ids):
            opened = OpenSound(data, later=True)
            if (
                row < _MOST_OPEN
                and opened.head.exact
                and not self.conditioning.changes(opened.head.rate, opened.head.channels)
            ):
                return opened
            return conditioned(opened.read(), self.conditioning)[0]

    def _write(self, sound: OpenSound | Sound, row: int, changes: Changes | None, out: Floats) -> None:
        """Its samples, changed by chance if they shall be."""
        if changes is None and isinstance(sound, OpenSound):
            sound.read(out)
            return
        samples = (sound.read() if isinstance(sound, OpenSound) else sound).samples[:, 0]
        if changes is None:
            out[:] = samples
        else:
            changes.make(row, samples, self.conditioning.sample_rate or 0, out)

    @contextlib.contextmanager
    def _faults(self, row: int, ids: list[str]) -> Iterator[None]:
        """A fault of a sound as an error that names its row."""
        try:
            yield
        except AudioFault as fault:
            error = DecodeError(
                f"a sound cannot be decoded: {fault.reason} ({fault.detail})",
                expected="sounds that can be",
                fix="preprocess with the recipe audio: the step audio_check quarantines what cannot be decoded",
            )
            error.add_note(f"row {ids[row]}, column {self.column!r}, place {row} of the batch")
            raise error from fault

    def __repr__(self) -> str:
        return f"Sounds(sample_rate={self.conditioning.sample_rate}, mel={self.mel}, augment={self.augment})"


def _options(spec: StepSpec, kind: type[Options], given: Mapping[str, Any] | bool | None) -> Options | None:
    """Options of a step; None: the step is off."""
    if given is None or given is False:
        return None
    options = options_from(spec, {} if given is True else given)
    assert dataclasses.is_dataclass(options)
    assert isinstance(options, kind)
    return options
