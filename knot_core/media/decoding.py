"""A container's sound as blocks of samples: past what is damaged, and each where its time stamp says.

Shapes: C channels (1 or 2), S samples.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction

import av
import numpy as np

from .byte_clock import ByteClock
from .channels import Converter, by_sides
from .containers import UNREADABLE, Source, packets_past_errors, reason
from .samples import LOUDEST
from .time_stamps import Placed, Placing, Timed

_WITHOUT_TIME = {"mp3", "aac", "ac3", "eac3", "dts", "dtshd", "truehd", "mlp", "amr", "amrnb", "amrwb", "loas", "gsm"}
_SKIPPING = {"aac"}  # whose reader leaves out what is no packet
_ANY_CLOCK = {"mpegts", "mpeg"}  # whose time stamps may jump: FFmpeg closes what is longer than ten seconds
_ZERO_COUNTS = {"mov", "mp4", "matroska", "webm", "avi"}  # where a first time stamp above 0 is a pause
_LONGEST_PAUSE = 60.0  # seconds before all sound of such a file; above, it was cut out of something longer
_START_UP = 0.1  # seconds before 0 that decoders drop, such as Opus' pre-skip
_LONGEST_GAP = 600.0  # seconds, where nothing says how long the file is
_COVER = av.stream.Disposition.attached_pic
_LONGEST_OVERLAP = 10.0  # seconds; FFmpeg as well takes more for another clock
_CHAINED = {"ogg"}  # where sound never overlaps, but one may follow another with a clock of its own
_LOUDEST_CODED = 30.0  # times full scale: what damaged packets may be decoded to


@dataclass(frozen=True)
class Gap:
    """Silence that was put where there is no sound: both in seconds."""

    at: float
    length: float


@dataclass
class Report:
    """The defects of a sound, to be reported once."""

    lost: list[Gap] = field(default_factory=list)
    pauses: list[Gap] = field(default_factory=list)
    first_error: str | None = None
    num_heard: int = 0  # samples that are sound
    expected: float = 0.0  # seconds, where the container knows; 0: it does not
    seconds: float = 0.0  # that it became, once it was read to its end


def clip_start(container: av.container.InputContainer) -> float:
    """Seconds on the container's clock at which picture and sound together begin: its zero, for both of them."""
    start = (container.start_time or 0) / av.time_base
    if -_START_UP < start < 0:
        return 0.0
    if _has_pictures(container) or not _ZERO_COUNTS & set(container.format.name.split(",")):
        return start
    return 0.0 if 0 < start <= _LONGEST_PAUSE else start


def expected_seconds(container: av.container.InputContainer) -> float | None:
    """How long the sound is by the container's word, which need not be true."""
    stream = container.streams.audio[0]
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return container.duration / av.time_base if container.duration else None


def _has_pictures(container: av.container.InputContainer) -> bool:
    """Whether it is a video; a cover is none."""
    return bool(moving_pictures(container))


def moving_pictures(container: av.container.InputContainer) -> list[av.video.stream.VideoStream]:
    """The video streams of a container, without the cover that a sound file may have."""
    return [stream for stream in container.streams.video if not stream.disposition & _COVER]


class SoundDecoder:
    """Reads the first audio stream to its end."""

    def __init__(self, container: av.container.InputContainer, source: Source) -> None:
        self.report = Report()
        self._container, self._stream = container, container.streams.audio[0]
        self.sample_rate = self._rate = int(self._stream.rate)  # a stream's own changes with what is decoded
        self._convert = Converter(self._rate, self._stream.channels)
        names = set(container.format.name.split(","))
        self._bytes = ByteClock(source if names & _SKIPPING else None) if names & _WITHOUT_TIME else None
        self._zero: float | None = None  # of the time stamps, on the container's clock
        self._first_packet: float | None = None
        self._damaged = False
        overlap = 0.0 if names & _CHAINED else _LONGEST_OVERLAP
        self._placing = Placing(sample_rate=self._rate, longest_gap=self._longest_gap(names), longest_overlap=overlap)
        self._loudest = LOUDEST if self._stream.codec_context.name.startswith("pcm_") else _LOUDEST_CODED

    @property
    def num_channels(self) -> int:
        """1 or 2."""
        return self._convert.num_channels

    def close(self) -> None:
        """Let go of what was opened beside the container. Twice is once."""
        if self._bytes is not None:
            self._bytes.close()

    def blocks(self) -> Iterator[np.ndarray]:
        """float32 [C, S], one behind the other."""
        yield from by_sides(self._channels(), self._rate) if self._convert.is_wide else self._channels()
        if self._damaged:
            self._lose(self._placing.at, 0)
        self.report.seconds = self._placing.at / self._rate
        self.report.expected = self._certain_seconds()

    def _channels(self) -> Iterator[np.ndarray]:
        """float32 [C, S] as the converter gives them."""
        for placed in self._placing.lay(self._frames()):
            yield from self._heard(placed)
        rest = self._convert.rest()
        if rest.shape[1]:
            yield rest

    def _certain_seconds(self) -> float:
        """How long it should be, where the container can know; a video's length says nothing of its sound."""
        stream = self._stream
        if self._bytes is None and stream.duration and stream.time_base:
            return float(stream.duration * stream.time_base)
        unknown = self._bytes is not None or _has_pictures(self._container) or not self._container.duration
        return 0.0 if unknown else self._container.duration / av.time_base

    def _longest_gap(self, names: set[str]) -> float:
        if names & _ANY_CLOCK:
            return 10.0
        length = self._container.duration
        return length / av.time_base + 1 if length else _LONGEST_GAP

    def _heard(self, placed: Placed) -> Iterator[np.ndarray]:
        block = self._converted(placed.frame)[:, placed.cut :]
        begin = self._placing.at - block.shape[1] - placed.silence
        if placed.damaged:
            self._lose(begin, placed.silence)
        elif placed.silence:
            self.report.pauses.append(Gap(begin / self._rate, placed.silence / self._rate))
        for start in range(0, placed.silence, self._rate):
            yield np.zeros((self._convert.num_rows, min(self._rate, placed.silence - start)), np.float32)
        if block.size and not np.abs(block).max() <= self._loudest:  # NaN is not, either
            self.report.first_error = self.report.first_error or "values that are not finite, or far too loud"
            self._lose(begin + placed.silence, block.shape[1])
            block = np.zeros_like(block)
        else:
            self.report.num_heard += block.shape[1]
        yield block

    def _converted(self, frame: av.AudioFrame) -> np.ndarray:
        """[C, S]; silence of what cannot be converted."""
        try:
            return self._convert(frame)
        except UNREADABLE as problem:
            self.report.first_error = self.report.first_error or reason(problem)
            length = self._length(frame)
            self._lose(self._placing.at - length, length)
            return np.zeros((self._convert.num_rows, length), np.float32)

    def _length(self, frame: av.AudioFrame) -> int:
        """Samples at the rate of the whole."""
        return round(Fraction(frame.samples * self._rate, frame.sample_rate))

    def _lose(self, at: int, length: int) -> None:
        self.report.lost.append(Gap(at / self._rate, length / self._rate))

    def _frames(self) -> Iterator[Timed]:
        for packet in self._packets():
            if self._bytes is not None and self._bytes.in_tag(packet):
                continue
            if not packet.size and packet.pts is not None:  # the mark of an end in NUT; without a time, it flushes
                continue
            try:
                frames = packet.decode()
            except UNREADABLE as problem:
                self.report.first_error = self.report.first_error or reason(problem)
                self._damaged |= self._bytes is None or self._bytes.failed(packet)
                continue
            if self._bytes is not None and frames:
                seconds = sum(frame.samples / max(1, frame.sample_rate) for frame in frames)
                self._damaged = self._bytes.decoded(packet, seconds)
            for frame in frames:
                if frame.samples > 0 and frame.sample_rate > 0:
                    yield self._timed(frame)

    def _packets(self) -> Iterator[av.Packet]:
        for packet in packets_past_errors(self._container, self._stream, self._skipped):
            if self._first_packet is None and packet.pts is not None and packet.time_base:
                self._first_packet = float(packet.pts * packet.time_base)
            yield packet

    def _skipped(self, problem: Exception) -> None:
        self.report.first_error = self.report.first_error or reason(problem)
        self._damaged = True

    def _timed(self, frame: av.AudioFrame) -> Timed:
        damaged, self._damaged = self._damaged, False
        if self._bytes is not None:
            start = round(self._bytes.seconds * self._rate)
            self._bytes.seconds += frame.samples / frame.sample_rate
        else:
            seconds = frame.time
            known = seconds is not None and math.isfinite(seconds)
            start = round((seconds - self._zero_of(seconds, damaged)) * self._rate) if known else None
        return Timed(frame=frame, start=start, length=self._length(frame), damaged=damaged)

    def _zero_of(self, seconds: float, damaged: bool) -> float:
        """Decoders drop what they need to start up, and some are late by a frame: the first packet says when it is."""
        if self._zero is None:
            begin = clip_start(self._container)
            first = seconds if damaged or self._first_packet is None else min(seconds, self._first_packet)
            self._zero = seconds - max(0.0, first - begin)
        return self._zero
