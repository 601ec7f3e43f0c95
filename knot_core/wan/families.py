"""Families of public checkpoints, one row each: how a file is recognised, and how it streams.

Self-Forcing and its descendants are unmodified Wan2.1 weights, so nothing inside the files tells them apart; then the
names of file and folder, and of what wraps the weights, are hints, and the user has the last word.
A family's own papers count the chunk into the window; here `num_window_frames` are committed frames behind it,
sinks not included.
"""

from dataclasses import replace
from functools import partial

from ..config import StreamSettings
from ..errors import CheckpointError, short
from ..flow import NUM_TIMESTEPS, shift_sigma
from .preset import LARGE, SMALL, Preset

_Wan = partial(Preset, fps=16, height=480, width=832)
_THREE_FRAMES = StreamSettings(num_window_frames=18)  # 21 frames with the chunk
_SINGLE_FRAMES = replace(_THREE_FRAMES, num_chunk_frames=1, num_window_frames=20)
_FROM_PICTURE = replace(_THREE_FRAMES, start_from_reference=True)  # trained with the picture as their first frame
_FOUR_STEPS = (1000.0, 937.5, 2500 / 3, 625.0)


def _between(first: float, last: float, *, steps: int, shift: float) -> tuple[float, ...]:
    """Timesteps evenly spaced before the shift, both ends included."""
    spaced = (first + (last - first) * step / (steps - 1) for step in range(steps))
    return tuple(NUM_TIMESTEPS * shift_sigma(timestep / NUM_TIMESTEPS, shift) for timestep in spaced)


# The first row of a structure is the nearest to a file that nothing else tells apart.
ROWS = (
    _Wan(
        family="self-forcing",
        title="Self-Forcing 1.3B",
        settings=_THREE_FRAMES,
        licence="Apache-2.0",
        names=r"self-?forcing|ode-init",
        wrappers=("generator_ema",),
        notes="A window of 9 is enough for long streams and takes half the memory.",
    ),
    _Wan(
        family="causal-forcing-1step",
        title="Causal Forcing++ framewise, 1 step",
        settings=replace(_SINGLE_FRAMES, steps=1, first_timesteps=_FOUR_STEPS),
        licence="Apache-2.0",
        names=r"(framewise|causal-forcing).*(1|one)-?step",
        hints=r"causal-forcing|framewise",
        wrappers=("generator_ema",),
    ),
    _Wan(
        family="causal-forcing-2step",
        title="Causal Forcing++ framewise, 2 steps",
        settings=replace(_SINGLE_FRAMES, steps=2, first_timesteps=_FOUR_STEPS),
        licence="Apache-2.0",
        names=r"(framewise|causal-forcing).*(2|two)-?step",
        hints=r"causal-forcing|framewise",
        wrappers=("generator_ema",),
    ),
    _Wan(
        family="causal-forcing-framewise",
        title="Causal Forcing framewise",
        settings=_SINGLE_FRAMES,
        licence="Apache-2.0",
        names=r"framewise/(causal-forcing|ar-diffusion|causal-ode|causal-cd)|causal-forcing[^/]*framewise"
        r"|framewise[^/]*causal-forcing",
        hints=r"causal-forcing|framewise|ar-diffusion|causal-(ode|cd)",
        wrappers=("generator_ema",),
    ),
    _Wan(
        family="causal-forcing",
        title="Causal Forcing chunkwise",
        settings=_THREE_FRAMES,
        licence="Apache-2.0",
        names=r"chunkwise/(causal-forcing|ar-diffusion|causal-ode|causal-cd)|causal-forcing[^/]*chunkwise"
        r"|chunkwise[^/]*causal-forcing",
        hints=r"causal-forcing|chunkwise|ar-diffusion|causal-(ode|cd)|long-?video",
        wrappers=("generator",),
    ),
    _Wan(
        family="causvid",
        title="CausVid 1.3B",
        settings=replace(_THREE_FRAMES, shift=8.0, timesteps=(1000, 757, 522), sigma_table=True),
        licence="CC-BY-NC-SA-4.0",
        names=r"causvid(?!-plus)|autoregressive-checkpoint|wan-causal-ode",
        wrappers=("generator",),
        notes="Not trained for unbounded generation: its own long videos restart with an overlap.",
    ),
    _Wan(
        family="longlive",
        title="LongLive 1.0 1.3B",
        settings=StreamSettings(num_window_frames=6, num_sink_frames=3),
        licence="Apache-2.0",
        names=r"longlive",
        wrappers=("generator",),
        notes="longlive_base.pt alone is not the published model: give lora.pt as the LoRA. "
        "For streams of more than four minutes set rope_positions to window.",
    ),
    _Wan(
        family="reward-forcing",
        title="Reward Forcing T2V 1.3B",
        settings=StreamSettings(num_window_frames=3, num_sink_frames=3, sink_decay=0.999, rope_positions="window"),
        licence="Apache-2.0",
        names=r"reward-?forcing",
    ),
    _Wan(
        family="infinite-forcing",
        title="Infinite-Forcing 1.3B",
        settings=StreamSettings(num_window_frames=2, num_sink_frames=1, rope_positions="window"),
        licence="Apache-2.0",
        names=r"infinite-?forcing|infinity-?rope|sotamak1r/.*ema-model",
        wrappers=("generator_ema",),
        notes="Window and sink are those of configs/self_forcing_dmd_vsink1.yaml, which its README runs.",
    ),
    _Wan(
        family="rolling-forcing",
        title="Rolling Forcing 1.3B",
        settings=StreamSettings(num_window_frames=15, num_sink_frames=3, rope_positions="window", steps=5),
        licence="Tencent: academic use only",
        names=r"rolling-?forcing",
        hints=r"long-?video",
        wrappers=("generator_ema", "generator"),
        notes="Made for a staircase of noise levels over five chunks at once; here its weights denoise chunk by chunk.",
    ),
    _Wan(
        family="krea",
        title="Krea Realtime 14B",
        settings=StreamSettings(
            num_window_frames=3, timesteps=(*_FOUR_STEPS, 0.0), sigma_table=True, commit="recompute"
        ),
        licence="CC-BY-NC-SA-4.0",
        widths=(LARGE,),
        names=r"krea",
        wrappers=("model.",),
        notes="Its server also decodes the window's oldest picture and encodes it again as a first frame; here the "
        "latent stays as it was.",
    ),
    _Wan(
        family="streamdiffusion-v2",
        title="StreamDiffusionV2's Wan, 1.3B and 14B",
        settings=StreamSettings(
            num_window_frames=15,
            num_sink_frames=3,  # its ring never comes back to the first chunk
            shift=8.0,
            timesteps=(1000, 750, 500, 250, 0),
            sigma_table=True,
            commit="in_place",
        ),
        licence="code Apache-2.0; weights descend from CausVid (CC-BY-NC-SA-4.0): check",
        widths=(SMALL, LARGE),
        names=r"streamdiffusion|wan-causal-dmd-v2v|causvid-plus",
        wrappers=("generator",),
        notes="These are its text to video settings, wan_causal_dmd_t2v.yaml. Not here: its video to video, a batch of "
        "chunks at different levels, sinks that are renewed, a first chunk of 2, positions that begin again after 50.",
    ),
    _Wan(
        family="wan-t2v",
        takes_guidance=True,
        title="Wan2.1 T2V, 1.3B and 14B",
        settings=replace(_THREE_FRAMES, steps=50, sampler="euler", text_guidance=5.0),
        licence="Apache-2.0",
        widths=(LARGE, SMALL),
        names=r"wan-?2-?1.*t2v|t2v.*wan|wan-t2v",
        is_base=True,
        notes="Not causal: its own code denoises a whole clip at once. Its sampler is unipc; euler, which needs no "
        "package, is a choice of this software. For a LoRA that makes it causal and fast, set the LoRA's own steps, "
        "sampler renoise and text_guidance 1.",
    ),
    Preset(
        family="livetalk",
        title="LiveTalk 1.3B",
        settings=StreamSettings(num_window_frames=3, num_sink_frames=9, start_from_reference=True),
        fps=16,
        height=512,
        width=512,
        licence="Apache-2.0 in its README, CC-BY-NC-SA-4.0 in its LICENSE.md",
        layout="ref33",
        adapter="pack",
        speech="wav2vec2-base-960h",
        timing="spread",
        timestep_dtype="bfloat16",
        names=r"livetalk",
        notes="Never saw a known frame after the first, so the knot is untested with its real weights.",
    ),
    Preset(
        family="omniavatar",
        takes_guidance=True,
        title="OmniAvatar merged into Wan2.1, 1.3B and 14B",
        settings=replace(_FROM_PICTURE, steps=50, sampler="euler", text_guidance=4.5, sound_guidance=4.5),
        fps=25,
        height=480,
        width=832,
        licence="Apache-2.0",
        layout="ref33",
        adapter="pack",
        speech="wav2vec2-base-960h",
        timing="late",
        widths=(LARGE, SMALL),
        names=r"omni-?avatar",
        notes="LiveTalk's teacher. Not causal: its own code denoises a whole clip at once. The size is a choice of "
        "this software.",
    ),
    _Wan(
        family="wan-i2v",
        takes_guidance=True,
        unknown_frames="grey",
        title="Wan2.1 I2V, 1.3B and 14B",
        settings=replace(_FROM_PICTURE, steps=40, shift=3.0, sampler="euler", text_guidance=5.0),
        licence="Apache-2.0",
        layout="inpaint36",
        widths=(LARGE, SMALL),
        names=r"i2v",
        is_base=True,
        notes="Of 480p; for 720p set shift to 5. Not causal: its own code denoises a whole clip at once. Its sampler "
        "is unipc; euler, which needs no package, is a choice of this software. For a LoRA that makes it causal and "
        "fast, set the LoRA's own steps, sampler renoise and text_guidance 1.",
    ),
    Preset(
        family="infinitetalk",
        takes_guidance=True,
        unknown_frames="grey",
        known_in_x=True,
        title="InfiniteTalk's audio modules on Wan2.1 I2V 14B",
        settings=replace(
            _FROM_PICTURE,
            steps=40,
            shift=7.0,
            timesteps=_between(1000, 1, steps=40, shift=7.0),
            sampler="euler",
            text_guidance=5.0,
            sound_guidance=4.0,
        ),
        fps=25,
        height=480,
        width=832,
        licence="Apache-2.0",
        layout="inpaint36",
        adapter="cross",
        speech="chinese-wav2vec2-base",
        widths=(LARGE,),
        names=r"infinite-?talk|multi-?talk",
        notes="Its file holds the audio modules only: load Wan2.1 I2V 14B 480P with it as the overlay. Not causal: its "
        "own code denoises a whole clip at once, each after the first behind the end of the one before.",
    ),
    Preset(
        family="knot-tiny",
        title="knot-tiny, built in",
        settings=StreamSettings(),
        fps=25,
        height=128,
        width=128,
        has_own_codec=True,
        licence="Apache-2.0",
        layout="inpaint36",
        adapter="pack",
        speech="mel",
        needs_text=False,
        widths=(256,),
        names=r"knot-?tiny",
    ),
    Preset(
        family="knot-face",
        title="knot-face, which moves the person in a photo",
        settings=StreamSettings(),
        fps=25,
        height=256,
        width=256,
        spatial=16,
        has_own_codec=True,
        licence="Apache-2.0",
        layout="inpaint36",
        adapter="units",
        speech="mel",
        needs_text=False,
        aligns_faces=True,
        widths=(256,),
        names=r"knot-?face",
    ),
)
PRESETS = {row.family: row for row in ROWS}


def find_family(name: str) -> Preset:
    """The family with that name; underscores are as good as hyphens.

    Raises:
        CheckpointError: the name is not known.
    """
    found = PRESETS.get(name.lower().replace("_", "-"))
    if found is None:
        raise CheckpointError(f"the family {short(name)} is not known; these stream here: {', '.join(PRESETS)}")
    return found
