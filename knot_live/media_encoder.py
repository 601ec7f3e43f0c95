"""A session's pictures and sound as messages, encoded once, whoever watches.

Shapes: T pixel frames, H W height and width, S samples.
"""

import base64
import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

import av
import numpy as np
from av.codec.codec import UnknownCodecError
from av.video.frame import PictureType
from av.video.reformatter import ColorRange, Colorspace

from .events import MediaChunk
from .fragmented_mp4 import OPUS_SCALE, Sample, Tracks, fragment, header, nal_units
from .messages import FMP4, H264, INITIALISATION, KEY_FRAME, OPUS, PCM16, Header
from .pacing import first_sample
from .sound_bytes import SOUND_RATE

_OPUS_SAMPLES = 480  # 20 ms at 24 kHz: of each packet
_OPUS_BITS = 48_000  # a second
_SPS, _PPS = 7, 8  # types of NAL units
_BT709 = 1
_SILENT = 1e-3  # of full scale


@dataclass(frozen=True, kw_only=True)
class Formats:
    """The formats of a session's media, which a client needs before it can play them."""

    codec: str  # of the pictures: RFC 6381
    mime: str  # of the MP4 fragments, as Media Source Extensions ask for it
    initialisation: bytes  # the message before the first MP4 fragment that a client gets
    opus_head: bytes | None  # RFC 7845's; None: there is no Opus

    def sound(self, name: str) -> dict[str, Any]:
        """The sound format of that name, or PCM where there is none; `head` is base64."""
        if name == "opus" and self.opus_head is not None:
            return {"format": "opus", "rate": SOUND_RATE, "head": base64.b64encode(self.opus_head).decode()}
        return {"format": "pcm16", "rate": SOUND_RATE}


@dataclass(frozen=True, kw_only=True)
class EncodedChunk:
    """Pictures and sound of a latent frame as binary messages, by format, and what is said of them."""

    epoch: int
    chunk: int
    first_frame: int
    num_frames: int
    key: bool  # the first of its frames can be decoded without those before
    about: Mapping[str, Any]  # of video.chunk_metadata
    media: Mapping[str, tuple[bytes, ...]]  # h264, pcm16, and those of fmp4 and opus that somebody wanted

    @property
    def end(self) -> int:
        """The frame behind its last one."""
        return self.first_frame + self.num_frames


class VideoEncoder:
    """H.264 as Annex B; a picture leaves as it comes, and each chunk begins with a key frame."""

    def __init__(self, width: int, height: int, fps: int) -> None:
        self._context = av.CodecContext.create("libx264", "w")
        context = self._context
        context.width, context.height, context.pix_fmt = width, height, "yuv420p"
        context.framerate, context.time_base = Fraction(fps), Fraction(1, fps)
        context.thread_count, context.max_b_frames = 1, 0  # the stream computes on the same cores
        context.gop_size = 2**30  # key frames are ours to say
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = 1  # 16..235
        context.options = {"preset": "superfast", "tune": "zerolatency", "profile": "baseline", "crf": "18",
                           "forced-idr": "1", "x264-params": "repeat-headers=1:scenecut=0:annexb=1"}  # fmt: skip
        self._count = 0

    def encode(self, frames: np.ndarray, *, key: bool = True) -> list[bytes]:
        """An access unit for each of the frames uint8 [T, H, W, 3]; `key`: the first is a key frame."""
        found = []
        for place, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24").reformat(
                format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
            )
            frame.pts, self._count = self._count, self._count + 1
            frame.time_base = self._context.time_base
            frame.pict_type = PictureType.I if key and place == 0 else PictureType.NONE
            found.append(b"".join(bytes(packet) for packet in self._context.encode(frame)))
        return found


class OpusEncoder:
    """Sound to packets of 20 ms; what is left over waits for the next chunk."""

    def __init__(self) -> None:
        self._context = av.CodecContext.create("libopus", "w")
        self._context.sample_rate, self._context.layout, self._context.format = SOUND_RATE, "mono", "s16"
        self._context.bit_rate, self._context.time_base = _OPUS_BITS, Fraction(1, SOUND_RATE)
        self._context.options = {"frame_duration": "20", "application": "audio"}
        self._context.open()
        self.head = bytes(self._context.extradata)
        self.pre_skip = int.from_bytes(self.head[10:12], "little")  # samples at 48 kHz: RFC 7845
        self._left, self._begins, self._count = np.zeros(0, np.int16), 0, 0

    def encode(self, samples: np.ndarray, position: int) -> list[tuple[int, bytes]]:
        """(position, packet) of int16 [S], whose first sample is at `position` of the stream."""
        if self._begins + len(self._left) != position:  # a cut: what waited was never heard
            self._left, self._begins = np.zeros(0, np.int16), position
        waiting = np.concatenate([self._left, samples])
        whole = len(waiting) // _OPUS_SAMPLES * _OPUS_SAMPLES
        found = [(self._begins + at, self._packet(waiting[at : at + _OPUS_SAMPLES]))
                 for at in range(0, whole, _OPUS_SAMPLES)]  # fmt: skip
        self._left, self._begins = waiting[whole:].copy(), self._begins + whole
        return found

    def _packet(self, samples: np.ndarray) -> bytes:
        frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        frame.sample_rate, frame.time_base, frame.pts = SOUND_RATE, Fraction(1, SOUND_RATE), self._count
        self._count += len(samples)
        return b"".join(bytes(packet) for packet in self._context.encode(frame))


@lru_cache(maxsize=16)
def _parameter_sets(width: int, height: int, fps: int) -> Mapping[int, bytes]:
    """H.264 parameter sets for that size, by type, taken from a black picture."""
    unit = VideoEncoder(width, height, fps).encode(np.zeros((1, height, width, 3), np.uint8))[0]
    return {one[0] & 31: one for one in nal_units(unit)}


@lru_cache(maxsize=1)
def has_opus() -> bool:
    """Whether this PyAV can encode it."""
    try:
        av.Codec("libopus", "w")
    except UnknownCodecError:
        return False
    return True


class ChunkEncoder:
    """A session's chunks to messages: video and PCM always, Opus and MP4 fragments once they are `wanted`."""

    def __init__(self, width: int, height: int, fps: int) -> None:
        self.wanted: set[str] = set()
        self.fps, self._video, self._number = fps, VideoEncoder(width, height, fps), 0
        self._opus = OpusEncoder() if has_opus() else None
        sets = _parameter_sets(width, height, fps)
        codec = f"avc1.{sets[_SPS][1:4].hex()}"  # profile, constraints and level
        tracks = Tracks(width=width, height=height, fps=fps, sps=sets[_SPS], pps=sets[_PPS],
                        pre_skip=None if self._opus is None else self._opus.pre_skip)  # fmt: skip
        self.formats = Formats(
            codec=codec,
            mime=f'video/mp4; codecs="{codec}{"" if self._opus is None else ", opus"}"',
            initialisation=Header(FMP4, INITIALISATION).pack() + header(tracks),
            opus_head=None if self._opus is None else self._opus.head,
        )

    def encode(self, chunk: MediaChunk) -> EncodedChunk:
        """The messages of a chunk or a piece of one, ready to be sent."""
        start = first_sample(chunk.first_frame, self.fps)
        samples = (np.clip(chunk.sound, -1, 1) * 32767).astype("<i2")
        places = _shown(chunk)
        units = self._video.encode(np.asarray(chunk.frames)[places], key=chunk.keyframe)
        media = {
            "h264": tuple(self._header(chunk, H264, chunk.first_frame + place, key=chunk.keyframe and place == 0) + unit
                          for place, unit in zip(places, units, strict=True)),
            "pcm16": (self._header(chunk, PCM16, start) + samples.tobytes(),),
        }  # fmt: skip
        packets = []
        if self._opus is not None and self.wanted & {"opus", "fmp4"}:
            packets = self._opus.encode(samples, start)
            media["opus"] = tuple(self._header(chunk, OPUS, position) + packet for position, packet in packets)
        if "fmp4" in self.wanted:
            media["fmp4"] = (
                self._header(chunk, FMP4, chunk.first_frame, key=chunk.keyframe)
                + self._fragment(chunk, dict(zip(places, units, strict=True)), packets),
            )
        return EncodedChunk(
            epoch=chunk.epoch, chunk=chunk.chunk, first_frame=chunk.first_frame, num_frames=len(chunk.frames),
            key=chunk.keyframe, about=_about(chunk) | {"ready": round(time.monotonic(), 5)}, media=media,
        )  # fmt: skip

    def _fragment(self, chunk: MediaChunk, units: Mapping[int, bytes], packets: list[tuple[int, bytes]]) -> bytes:
        self._number += 1
        scale = OPUS_SCALE // SOUND_RATE
        ends = [*units, len(chunk.frames)][1:]
        pictures = [
            Sample(unit, end - place, key=chunk.keyframe and place == 0)
            for (place, unit), end in zip(units.items(), ends, strict=True)
        ]
        sound = [Sample(packet, _OPUS_SAMPLES * scale) for _, packet in packets]
        begins = packets[0][0] * scale if packets else 0
        return fragment(self._number, (chunk.first_frame, pictures), (begins, sound))

    def _header(self, chunk: MediaChunk, kind: int, position: int, *, key: bool = False) -> bytes:
        return Header(kind, KEY_FRAME * key, chunk.epoch, chunk.chunk, position).pack()


def _shown(chunk: MediaChunk) -> list[int]:
    """Places of the pictures that are sent: the first, and of the stream's every so manieth."""
    return [place for place in range(len(chunk.frames)) if place == 0 or (chunk.first_frame + place) % chunk.every == 0]


def _about(chunk: MediaChunk) -> dict[str, Any]:
    return {
        "epoch": chunk.epoch,
        "chunk": chunk.chunk,
        "first_frame": chunk.first_frame,
        "frames": len(chunk.frames),
        "seconds": {name: round(float(value), 4) for name, value in chunk.seconds.items()},
        "applied": list(chunk.applied),
        "speech": bool(np.abs(chunk.sound).max(initial=0) > _SILENT),
        "buffer": round(float(chunk.buffer), 4),
    }


class EncoderThread:
    """Encodes beside the thread that computes, which never waits for it; the session's pacing bounds what waits.

    `failed` is called with what keeps a chunk from being encoded, on this thread: nothing is encoded after it.
    """

    def __init__(
        self,
        encoder: ChunkEncoder,
        done: Callable[[EncodedChunk], None],
        failed: Callable[[Exception], None] = lambda _: None,
    ) -> None:
        self._encoder, self._done, self._failed = encoder, done, failed
        self._problem: Exception | None = None
        self._waiting: queue.SimpleQueue[MediaChunk | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="knot-live-encoder", daemon=True)
        self._thread.start()

    def put(self, chunk: MediaChunk) -> None:
        """Encode that one after those before it; what kept one of those from being encoded is raised here."""
        if self._problem is not None:
            raise self._problem
        self._waiting.put(chunk)

    def close(self) -> None:
        """Wait until all is encoded that was put."""
        self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (chunk := self._waiting.get()) is not None and self._problem is None:
            try:
                for piece in chunk.pieces(self._encoder.fps):
                    self._done(self._encoder.encode(piece))
            except Exception as problem:  # of the thread that computes, which would not hear of it
                self._problem = problem
                self._failed(problem)  # the next chunk may never be put: nobody shows those before it
