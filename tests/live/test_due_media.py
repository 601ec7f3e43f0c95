"""What leaves when its time has come: a player on this side of a network."""

import asyncio
import time

import pytest

from knot_live.due_media import Playing
from knot_live.messages import H264, KEY_FRAME, OPUS, PCM16, Header

pytestmark = pytest.mark.alone

FPS = 25


def picture(frame, *, epoch=0, key=False):
    return Header(H264, KEY_FRAME * key, epoch, 0, frame).pack() + b"%d" % frame


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 30))


async def take(playing, count, kind=H264):
    """(frame, RTP seconds, seconds from the beginning) of the next ones."""
    begun, found = time.monotonic(), []
    for _ in range(count):
        piece, at = await playing.next(kind)
        found.append((piece.number, at, time.monotonic() - begun))
    return found


def test_pictures_leave_one_frame_apart_and_sound_with_them():
    async def play():
        playing = Playing(FPS)
        for frame in range(100, 110):
            playing.put(picture(frame))
        for packet in range(20):
            playing.put(Header(OPUS, position=24_000 * 4 + 480 * packet).pack() + b"sound")
        playing.put(Header(PCM16, position=24_000 * 4).pack() + b"nobody wants it")
        return await asyncio.gather(take(playing, 10), take(playing, 20, OPUS)), playing

    (pictures, sound), playing = run(play())
    assert [frame for frame, _, _ in pictures] == list(range(100, 110))
    assert [at for _, at, _ in pictures] == pytest.approx([pictures[0][1] + n / FPS for n in range(10)])
    assert sound[0][1] == pytest.approx(pictures[0][1]), "both clocks are one"
    assert sound[-1][1] - sound[0][1] == pytest.approx(19 * 0.02)
    assert all(now >= at - 1e-3 for _, at, now in pictures), "none leaves before its time"
    assert playing.frame == 109
    assert not any(playing.held.values())


def test_where_pictures_ran_out_all_that_follows_leaves_later():
    async def play():
        playing = Playing(FPS)
        playing.put(picture(0))
        first = await take(playing, 1)
        await asyncio.sleep(0.3)
        for frame in (1, 2):
            playing.put(picture(frame))
        return first + await take(playing, 2)

    (_, zero, _), (_, one, _), (_, two, waited) = run(play())
    assert one - zero == pytest.approx(0.3, abs=0.1), "RTP's clock went on while nothing was there"
    assert two - one == pytest.approx(1 / FPS)
    assert waited < 0.2


def test_a_cut_drops_what_is_held_and_what_is_on_its_way_and_only_that():
    async def play():
        playing = Playing(FPS)
        for frame in range(8):
            playing.put(picture(frame))
        playing.cut_from(1, 4)
        playing.put(picture(3))
        playing.put(picture(6))  # of the epoch before, behind the cut: it was being encoded
        for frame in (4, 5):
            playing.put(picture(frame, epoch=1, key=frame == 4))
        return [(piece.number, piece.epoch) for piece in playing.held[H264]]

    assert run(play()) == [(0, 0), (1, 0), (2, 0), (3, 0), (3, 0), (4, 1), (5, 1)]


def test_who_is_not_paced_goes_on_with_the_newest_key_frame():
    async def play():
        playing = Playing(FPS)
        for frame in range(5 * FPS):
            playing.put(picture(frame, key=frame % 10 == 0))
        (first, _, waited), *_ = await take(playing, 1)
        return first, waited

    first, waited = run(play())
    assert first % 10 == 0
    assert first >= 4 * FPS - 10
    assert waited < 1
