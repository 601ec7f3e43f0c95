"""The forward pass: equal to the public implementation, to itself in other guises, and open to gradients."""

import importlib.util
import itertools

import pytest
import torch
from einops import rearrange

from knot_core.attention_cache import NoCache
from knot_core.config import AdapterConfig, NetworkConfig
from knot_core.wan.adapters import encode_driving
from knot_core.wan.forward import FrameInputs, encode_context, wan_forward
from knot_core.wan.layouts import get_layout
from knot_core.wan.network import PatchEmbedding, WanNetwork, cast_weights, init_weights
from knot_core.wan.rope import rope_table
from knot_lab.training.rollout_cache import RolloutCache

GRID, TOKENS = (2, 3), 6
WAN_1_3B = {"dim": 1536, "ffn_dim": 8960, "num_heads": 12, "num_layers": 30}


def rand(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def frames(model, x, timestep, positions, driving=None):
    extra = {} if driving is None else {"driving": driving}
    rope = rope_table(positions, GRID, model.config.head_dim)
    return FrameInputs(x_BFCHW=x, timestep_BF=timestep, rope=rope, **extra)


def context(model, num_text_tokens=1, batch=1):
    text = rand(batch, num_text_tokens, model.config.text_dim, seed=3)
    return encode_context(model.network, text, head_dim=model.config.head_dim, compute_dtype=model.dtype)


def diffusers_key(key):
    """Ours to theirs."""
    for ours, theirs in (
        ("cross_attn.k_img.", "attn2.add_k_proj."), ("cross_attn.v_img.", "attn2.add_v_proj."),
        ("cross_attn.norm_k_img.", "attn2.norm_added_k."),
        ("img_emb.proj.0.", "condition_embedder.image_embedder.norm1."),
        ("img_emb.proj.1.", "condition_embedder.image_embedder.ff.net.0.proj."),
        ("img_emb.proj.3.", "condition_embedder.image_embedder.ff.net.2."),
        ("img_emb.proj.4.", "condition_embedder.image_embedder.norm2."),
        ("self_attn.o.", "attn1.to_out.0."), ("cross_attn.o.", "attn2.to_out.0."),
        ("self_attn.norm_", "attn1.norm_"), ("cross_attn.norm_", "attn2.norm_"),
        ("self_attn.", "attn1.to_"), ("cross_attn.", "attn2.to_"),
        ("norm3.", "norm2."), ("ffn.0.", "ffn.net.0.proj."), ("ffn.2.", "ffn.net.2."),
        ("head.modulation", "scale_shift_table"), ("modulation", "scale_shift_table"), ("head.head.", "proj_out."),
        ("time_embedding.0.", "condition_embedder.time_embedder.linear_1."),
        ("time_embedding.2.", "condition_embedder.time_embedder.linear_2."),
        ("time_projection.1.", "condition_embedder.time_proj."),
        ("text_embedding.0.", "condition_embedder.text_embedder.linear_1."),
        ("text_embedding.2.", "condition_embedder.text_embedder.linear_2."),
    ):  # fmt: skip
        if ours in key:
            return key.replace(ours, theirs)
    return key


@pytest.mark.skipif(
    importlib.util.find_spec("diffusers") is None,
    reason="NOT CHECKED against the public implementation: diffusers is missing (pip install diffusers)",
)
@pytest.mark.parametrize("start", [0, 5])
@pytest.mark.parametrize("image_dim", [None, 24], ids=["T2V", "I2V"])
def test_full_sequence_equals_diffusers(make_model, start, image_dim):
    """I2V: 36 input channels and CLIP tokens, which are told from the text by the text's length of 512."""
    from diffusers import WanTransformer3DModel

    model = make_model("inpaint36" if image_dim else "t2v16", adapter=None, image_dim=image_dim)
    config = model.config
    theirs = WanTransformer3DModel(
        patch_size=(1, 2, 2), num_attention_heads=config.num_heads, attention_head_dim=config.head_dim,
        in_channels=config.in_channels, out_channels=16, text_dim=config.text_dim, freq_dim=config.freq_dim,
        ffn_dim=config.ffn_dim, num_layers=config.num_layers, cross_attn_norm=True, eps=config.eps,
        qk_norm="rms_norm_across_heads", image_dim=image_dim, added_kv_proj_dim=config.dim if image_dim else None,
    ).eval()  # fmt: skip
    theirs.load_state_dict({diffusers_key(key): value for key, value in model.network.state_dict().items()})

    x, timestep = rand(2, 5, config.in_channels, 4, 6), torch.tensor([833.25, 120.0])
    text = rand(2, 512 if image_dim else 7, config.text_dim, seed=1)
    image = rand(2, 9, image_dim, seed=2) if image_dim else None
    with torch.no_grad():
        want = theirs(rearrange(x, "b f c h w -> b c f h w"), timestep, text, image, return_dict=False)[0]
        prompt = encode_context(
            model.network, text, head_dim=config.head_dim, compute_dtype=torch.float32, image_BTE=image
        )
        inputs = frames(model, x, timestep[:, None].expand(-1, 5), range(start, start + 5))
        got = wan_forward(model.network, inputs, prompt, NoCache())
    error = (got - rearrange(want, "b c f h w -> b f c h w")).abs().max() / want.abs().max()
    assert error < 1e-4, f"max relative error {error:.1e}"


def test_text_of_one_token_takes_a_short_cut_to_the_same_result(make_model):
    """A token said twice gives the same attention, without the short cut."""
    model = make_model(dtype=torch.float64)
    model.network.double()
    text = rand(1, 1, model.config.text_dim, dtype=torch.float64)
    inputs = frames(model, rand(1, 2, 36, 4, 6, dtype=torch.float64), torch.full((1, 2), 500.0), range(2))
    once, twice = (
        wan_forward(
            model.network, inputs,
            encode_context(model.network, said, head_dim=model.config.head_dim, compute_dtype=torch.float64),
            NoCache(), compute_dtype=torch.float64,
        )
        for said in (text, text.repeat(1, 2, 1))
    )  # fmt: skip
    torch.testing.assert_close(once, twice)


def test_each_frame_has_its_own_timestep(model):
    """Frames that cannot see each other (one pass each) come out as in one pass of one level."""
    x, timesteps = rand(2, 1, 36, 4, 6), torch.tensor([[0.0], [700.0]])
    together = wan_forward(model.network, frames(model, x, timesteps, [0]), context(model), NoCache())
    for clip in range(2):
        alone = frames(model, x[clip : clip + 1], timesteps[clip : clip + 1], [0])
        torch.testing.assert_close(
            together[clip : clip + 1], wan_forward(model.network, alone, context(model), NoCache())
        )
    x = rand(1, 2, 36, 4, 6)
    flat, split = (
        wan_forward(model.network, frames(model, x, torch.tensor([levels]), range(2)), context(model), NoCache())
        for levels in ([700.0, 700.0], [0.0, 700.0])
    )
    assert (flat - split)[:, 1].abs().max() > 1e-3, "the second frame must notice that the first one is clean"


def test_patch_embedding_is_its_convolution():
    embedding = PatchEmbedding(36, 8)
    x = rand(2, 36, 3, 4, 6)
    torch.testing.assert_close(embedding(x), torch.nn.Conv3d.forward(embedding, x))


def test_a_pass_sees_its_own_frames_and_what_was_committed_never_what_comes_later(model):

    def stream(cuts):
        cache, outputs = RolloutCache(num_window_frames=10, num_tokens=TOKENS), []
        x = rand(1, 4, 36, 4, 6)
        for start, stop in cuts:
            part = frames(model, x[:, start:stop], torch.zeros(1, stop - start), range(start, stop))
            outputs.append(wan_forward(model.network, part, context(model), cache))
            cache.commit(stop - start)
        return torch.cat(outputs, dim=1)

    one_by_one = stream([(0, 1), (1, 2), (2, 3), (3, 4)])
    assert (one_by_one - stream([(0, 2), (2, 4)]))[:, 0].abs().max() > 1e-4, "chunk-mates see each other"
    torch.testing.assert_close(one_by_one[:, 0], stream([(0, 1), (1, 4)])[:, 0])


def test_gradients_reach_every_weight_and_flow_through_keys_and_values(make_model):
    model = make_model()
    network, adapter = model.network.train(), model.config.adapter
    cache = RolloutCache(num_window_frames=3, num_tokens=TOKENS)
    past = rand(2, 3, 36, 4, 6).requires_grad_()
    signal = rand(2, 3, 4, 5).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        prompt = encode_context(network, rand(1, 2, 20), head_dim=24, compute_dtype=torch.bfloat16)
        driving = encode_driving(network, adapter.blocks, signal)
        for start, x in ((0, past), (3, rand(2, 3, 36, 4, 6, seed=1))):
            inputs = frames(model, x, torch.zeros(2, 3), range(start, start + 3), driving)
            out = wan_forward(network, inputs, prompt, cache, compute_dtype=torch.bfloat16)
            cache.commit(3)
    assert out.dtype == torch.float32
    out.square().mean().backward()
    assert past.grad.abs().max() > 0, "nothing came back through the cache"
    assert signal.grad.abs().max() > 0
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().max() > 0] == []


def test_bfloat16_stays_near_float32(make_model):
    exact, rough = make_model(), make_model(dtype=torch.bfloat16)
    x, timestep = rand(1, 3, 36, 4, 6), torch.full((1, 3), 625.0)
    outputs = [
        wan_forward(m.network, frames(m, x, timestep, range(3)), context(m), NoCache(), compute_dtype=m.dtype)
        for m in (exact, rough)
    ]
    assert outputs[1].dtype == torch.float32
    assert (outputs[0] - outputs[1]).norm() / outputs[0].norm() < 0.03


def test_cast_leaves_what_is_delicate_in_float32(make_model):
    network = cast_weights(make_model().network, torch.bfloat16)
    kept = {name for name, parameter in network.named_parameters() if parameter.dtype == torch.float32}
    cast = {name for name, parameter in network.named_parameters() if parameter.dtype == torch.bfloat16}
    assert {
        "blocks.0.modulation",
        "blocks.0.norm3.weight",
        "time_projection.1.weight",
        "audio_proj.proj.weight",
    } <= kept
    assert {"blocks.0.ffn.0.weight", "blocks.2.cross_attn.o.bias", "head.head.weight", "patch_embedding.weight"} <= cast
    cast_weights(network, torch.float32)


@pytest.mark.parametrize(
    ("changes", "num_tensors", "num_parameters"),
    [
        ({"layout": "t2v16", "in_channels": 16}, 825, 1_418_996_800),
        ({"layout": "inpaint36", "in_channels": 36}, 825, None),
        (
            {"layout": "t2v16", "in_channels": 16, "adapter": AdapterConfig(
                signal_dim=10752, num_packed=4, hidden_dim=32, blocks=tuple(range(2, 16)))},
            857, None,
        ),
    ],
)  # fmt: skip
def test_tensors_of_the_public_checkpoints(changes, num_tensors, num_parameters):
    with torch.device("meta"):
        network = WanNetwork(NetworkConfig(**WAN_1_3B, **changes))
    state = network.state_dict()
    assert len(state) == num_tensors
    if num_parameters is not None:
        assert sum(tensor.numel() for tensor in state.values()) == num_parameters
    shapes = {name: list(tensor.shape) for name, tensor in state.items()}
    assert shapes["patch_embedding.weight"] == [1536, changes["in_channels"], 1, 2, 2]
    assert shapes["time_projection.1.weight"] == [9216, 1536]
    assert shapes["blocks.29.modulation"] == [1, 6, 1536]
    assert shapes["head.head.weight"] == [64, 1536]
    if "adapter" in changes:
        assert shapes["audio_proj.proj.weight"] == [32, 43008]
        assert shapes["audio_cond_projs.13.weight"] == [1536, 32]


def test_starting_weights_depend_on_the_seed_only(make_config):
    def start(seed):
        return init_weights(WanNetwork(make_config()), torch.Generator().manual_seed(seed)).state_dict()

    first, again, other = start(0), start(0), start(1)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["blocks.0.ffn.0.weight"], other["blocks.0.ffn.0.weight"])


def test_inpaint36_puts_noise_mask_and_condition_in_this_order():
    layout, x, known = get_layout("inpaint36"), rand(1, 3, 16, 4, 6), rand(1, 1, 16, 4, 6, seed=1)
    channels = layout.channels(x, known)
    assert torch.equal(channels[:, :, :16], x)
    assert torch.equal(channels[:, :, 16:20].amax(dim=(2, 3, 4)), torch.tensor([[1.0, 0.0, 0.0]]))
    assert torch.equal(channels[:, :, 16:20].amin(dim=(2, 3, 4)), torch.tensor([[1.0, 0.0, 0.0]]))
    assert torch.equal(channels[:, :1, 20:], known)
    assert not channels[:, 1:, 16:].any()
    assert torch.equal(layout.pin(x, known), x)


def test_t2v16_puts_known_frames_into_x_at_timestep_zero():
    layout, x, known = get_layout("t2v16"), rand(1, 3, 16, 4, 6), rand(1, 2, 16, 4, 6, seed=1)
    pinned = layout.pin(x, known)
    assert torch.equal(pinned[:, :2], known)
    assert torch.equal(pinned[:, 2:], x[:, 2:])
    assert layout.frame_sigmas(torch.full((1, 3), 0.5), 2).tolist() == [[0.0, 0.0, 0.5]]
    assert torch.equal(layout.channels(x, known), x)


def test_ref33_puts_noise_reference_and_mask_in_this_order_and_0_means_known():
    layout, x, reference = get_layout("ref33"), rand(2, 3, 16, 4, 6), rand(1, 1, 16, 4, 6, seed=1)
    known = rand(2, 1, 16, 4, 6, seed=2)
    channels = layout.channels(x, known, reference)
    assert channels.shape[2] == layout.in_channels == 33
    assert torch.equal(channels[:, :, :16], x)
    assert torch.equal(channels[:, :, 16:32], reference.expand(2, 3, -1, -1, -1))
    assert torch.equal(channels[:, :, 32].amax(dim=(2, 3)), torch.tensor([[0.0, 1.0, 1.0]] * 2))
    assert torch.equal(channels[:, :, 32].amin(dim=(2, 3)), torch.tensor([[0.0, 1.0, 1.0]] * 2))
    assert torch.equal(layout.channels(x, None, reference)[:, :, 32], torch.ones(2, 3, 4, 6))
    assert torch.equal(layout.pin(x, known), torch.cat([known, x[:, 1:]], dim=1))
    assert layout.frame_sigmas(torch.full((1, 3), 0.5), 1).tolist() == [[0.5, 0.5, 0.5]]


def test_only_livetalk_s_first_frame_is_known_when_it_is_committed():
    known = rand(1, 1, 16, 4, 6)
    for name, from_reference in itertools.product(("inpaint36", "ref33", "t2v16"), (False, True)):
        kept = get_layout(name).known_at_commit(known, from_reference=from_reference)
        assert (kept is not None) == (name == "ref33" and from_reference)
