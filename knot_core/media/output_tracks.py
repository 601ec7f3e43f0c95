"""Pictures and sound to packets, in step.

Shapes: T pixel frames, H W height and width, C channels, S samples.
"""

from fractions import Fraction
from typing import Protocol

import av
import torch
from av.video.reformatter import ColorRange, Colorspace
from torch import Tensor

from .formats import VideoFormat

_BT709 = 1  # the number of ITU-R BT.709 in the codecs' tables of matrices, primaries and transfer functions
_LIMITED = 1  # 16..235, what players expect of yuv
_SECONDS_OF_GOP = 10  # at most; a chunk that begins more than a second after the last key frame begins with one


class SoundTrack(Protocol):
    """A sound that is read piece by piece."""

    @property
    def sample_rate(self) -> int:
        """Samples per second."""

    @property
    def num_channels(self) -> int:
        """1 or 2."""

    def read(self, start: int, stop: int) -> Tensor:
        """float32 [C, S] of samples start .. stop-1, fewer where the sound ends; later calls do not go back."""


class Tracks:
    """The encoders of one video, and the streams that they have in `container`."""

    def __init__(
        self,
        container: av.container.OutputContainer,
        form: VideoFormat,
        *,
        size: tuple[int, int],
        fps: int,
        audio: SoundTrack | None,
    ) -> None:
        self.num_pixel_frames, self._fps, self._audio, self._num_samples = 0, fps, audio, 0
        self._num_packets = 0  # of pictures
        self._key_frame = -fps  # number of the last forced one
        self.video = self._add_video(container, form, size)
        self.sound = None if audio is None else self._add_sound(container, form, audio)

    def encode(self, pixel_frames: Tensor) -> list[av.Packet]:
        """Packets of the frames uint8 [T, H, W, 3] and of the sound that belongs to them."""
        packets = []
        for place, picture in enumerate(pixel_frames.cpu().numpy()):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(
                format=self.video.pix_fmt, dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
            )
            frame.pts, frame.time_base = self.num_pixel_frames, Fraction(1, self._fps)
            if place == 0 and self.num_pixel_frames >= self._key_frame + self._fps:
                frame.pict_type, self._key_frame = av.video.frame.PictureType.I, self.num_pixel_frames
            packets += self._numbered(self.video.encode(frame))
            self.num_pixel_frames += 1
        return packets + self._sound_until(Fraction(self.num_pixel_frames, self._fps))

    def flush(self) -> list[av.Packet]:
        """The packets that the encoders still hold."""
        sound = [] if self.sound is None else self.sound.encode(None)
        return self._numbered(self.video.encode(None)) + sound

    def _numbered(self, packets: list[av.Packet]) -> list[av.Packet]:
        """Pictures at the time that they have by their number: they leave in order, and muxers refuse a file in which
        two have one time. SVT-AV1 is suspected of such packets at the end of a video, once in some thousands.
        """
        for packet in packets:
            packet.pts = packet.dts = self._num_packets
            packet.time_base = Fraction(1, self._fps)
            self._num_packets += 1
        return packets

    def _add_video(
        self, container: av.container.OutputContainer, form: VideoFormat, size: tuple[int, int]
    ) -> av.VideoStream:
        stream = container.add_stream(form.encoder, rate=self._fps, options=dict(form.options))
        stream.height, stream.width = size
        stream.pix_fmt = form.pixel_format
        context = stream.codec_context
        context.gop_size = _SECONDS_OF_GOP * self._fps
        context.max_b_frames = 0  # pictures leave in the order and at the time they come
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = _LIMITED
        if form.tag is not None:
            context.codec_tag = form.tag
        return stream

    def _add_sound(
        self, container: av.container.OutputContainer, form: VideoFormat, audio: SoundTrack
    ) -> av.AudioStream:
        sound = form.sound
        stream = container.add_stream(sound.encoder, rate=sound.rate(audio.sample_rate), options=dict(sound.options))
        stream.layout = _layout(audio)
        if sound.bits_per_second is not None:
            stream.bit_rate = sound.bits_per_second
        return stream

    def _sound_until(self, seconds: Fraction) -> list[av.Packet]:
        audio = self._audio
        if audio is None:
            return []
        stop = round(seconds * audio.sample_rate)
        samples = sound_between(audio, self._num_samples, stop)
        frame = av.AudioFrame.from_ndarray(samples.contiguous().numpy(), format="fltp", layout=_layout(audio))
        frame.sample_rate, frame.time_base = audio.sample_rate, Fraction(1, audio.sample_rate)
        frame.pts, self._num_samples = self._num_samples, stop
        return self.sound.encode(frame)


def sound_between(audio: SoundTrack, start: int, stop: int) -> Tensor:
    """Samples [C, S] within full scale, silence past the sound's end."""
    samples = audio.read(start, stop).clamp(-1, 1)
    return torch.nn.functional.pad(samples, (0, stop - start - samples.shape[1]))


def _layout(audio: SoundTrack) -> str:
    return "mono" if audio.num_channels == 1 else "stereo"
