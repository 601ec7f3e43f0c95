"""Chunks taken from a stream, and whether they are those of another, bit for bit."""

import itertools

import torch


def take(chunks, count):
    return list(itertools.islice(chunks, count))


def same(mine, theirs):
    """Two lists of chunks: as many, in the same places, with the same latents and pictures."""
    return len(mine) == len(theirs) and all(
        (one.index, one.start_frame) == (other.index, other.start_frame)
        and torch.equal(one.latents, other.latents)
        and torch.equal(one.pixel_frames, other.pixel_frames)
        for one, other in zip(mine, theirs, strict=True)
    )
