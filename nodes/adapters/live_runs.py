"""A live session as a node runs it: drawn in the thread in which ComfyUI executes nodes, until it is finished.

It is driven over the pack's route, by whoever was told how to attach.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary

import comfy.model_management as host
from comfy.utils import ProgressBar
from comfy_execution.utils import get_executing_context
from server import PromptServer
from torch import Tensor

from ...knot_core import Anchor, Driving, KnotError, Model, Snapshot, Stream, StreamStats, open_writer
from ...knot_core.media import Writer
from ...knot_core.run import StreamLog
from ...knot_core.stream import TimedPrompts, placed
from ...knot_core.stream.prompting import blend
from ...knot_live import controls
from ...knot_live.events import Event, MediaChunk, Recorded
from ...knot_live.live_driving import LiveDriving
from ...knot_live.live_session import LiveSession
from ...knot_live.session import Session
from ...knot_live.sources import Made
from ...knot_live.speaking import synthesize
from ...knot_live.speed import Steps, changed_settings
from ...knot_live.studio import described, words_of
from .directing import edited_prompts, encoded, expression_timeline
from .driving_recipes import remade, timelines
from .editor_feed import place_of
from .host_model import HostModel, at_hand, running
from .host_speech_encoder import HostSpeechEncoder
from .live_hub import LIMITS, shown
from .live_told import Telling
from .memory_budget import memory_budget
from .node_thread import NodeThreadQueue
from .runs import begin, computes_here, stop_if_asked
from .states import state_kept
from .warnings import warn_on_node
from .writing import Written, container_metadata, workflow_id

LONGEST = 3600.0  # seconds of a session, of which ComfyUI's queue waits for every one
PROMPTS = "KnotForcingPromptTimeline"

_steps: WeakKeyDictionary[Model, Steps] = WeakKeyDictionary()


@dataclass(frozen=True, kw_only=True)
class LiveInputs:
    """The inputs of a node for a session; those that may be left out are None."""

    model: Model
    begun: Snapshot
    own_settings: bool  # those of `begun` were not chosen by anybody
    driving: Driving | None
    seed: int
    seconds: float  # 0: until it is finished
    clip: Any
    audio_encoder: Any
    hidden: Any  # the node's, with the prompt and the workflow


def run_live(inputs: LiveInputs, path: Path, video_format: str, keep_state: str) -> Written:
    """Run a session until it is finished, or its time is over; whatever ends it, what was shown is recorded.

    Raises:
        KnotError: nobody can drive it, or it ended before anything was shown.
    """
    if PromptServer.instance.client_id is None and inputs.seconds == 0:
        raise KnotError("got a prompt without a client_id, so nobody can drive or finish the session: queue it from "
                        "the editor or with clients/live.py, or set the longest time")  # fmt: skip
    with _at_hand(inputs) as placed_there:
        steps = steps_for(inputs.model, placed_there.anchor) if inputs.own_settings else None
        begun = placed_there if steps is None else _suited(inputs, placed_there, steps)
        run = LiveRun(inputs, begun, steps, path, video_format)
        with state_kept(run, keep_state), shown(run.made, run.edit) as live:
            run.draw(live)
        return run.written()


@contextmanager
def _at_hand(inputs: LiveInputs) -> Iterator[Snapshot]:
    """Within it the model may compute; the beginning, where it computes."""
    begun = inputs.begun
    budget = memory_budget(inputs.model, begun.anchor, begun.settings)
    with running(inputs.model, budget.whole):
        yield replace(begun, anchor=at_hand(begun.anchor, inputs.model))


def steps_for(model: Model, anchor: Anchor) -> Steps | None:
    """The steps that this machine can afford, measured once for each model; ComfyUI's own take what they are told."""
    if isinstance(model, HostModel):
        return None
    if model not in _steps:
        _steps[model] = Steps(model, anchor)
    return _steps[model]


def _suited(inputs: LiveInputs, begun: Snapshot, steps: Steps) -> Snapshot:
    return begin(inputs.model, begun.anchor, steps.suit(begun.settings), inputs.seed)


class LiveRun:
    """One session: its chunks with ComfyUI's progress bar, its figures, its recording, and edits of its timelines.

    All but `edit` runs in the thread that executes the node.
    """

    num_pixel_frames = math.inf  # so that whatever ends it leaves a state

    def __init__(self, inputs: LiveInputs, begun: Snapshot, steps: Steps | None, path: Path, video_format: str) -> None:
        self._inputs, self._path, self._format = inputs, path, video_format
        self._change = changed_settings if steps is None else steps.change
        self._beneath, self._prompts = inputs.driving, begun.conditioning.prompts
        self._turn, self._recorded, self._listener = NodeThreadQueue(), None, None
        self._editing = Lock()  # one edit after the other
        self._set_before: Any = None  # weights of the prompts
        self._bytes = memory_budget(inputs.model, begun.anchor, begun.settings).a_pass
        self._link = self._own_inputs()
        self.num_made, self.stream = 0, None
        self.driving = LiveDriving(inputs.model, beneath=inputs.driving, seed=inputs.seed, encoder=self._encoder())
        self.session = self._session(begun)
        height, width = begun.anchor.video_size
        model = inputs.model
        self.log = StreamLog(fps=model.fps, device=model.device, dtype=model.dtype)
        prompts = inputs.clip is not None and model.preset.needs_text
        own = {"prompts": prompts, "badge": False, "steps": begun.settings.steps}
        about = described(model, width, height, LIMITS) | own
        self.made = Made(session=self.session, width=width, height=height, fps=model.fps, words=words_of(model),
                         about=about, listen=self._listen)  # fmt: skip

    def _session(self, begun: Snapshot) -> Session:
        inputs = self._inputs
        return Session(
            inputs.model, begun.anchor, begun.settings, at=begun, driving=self.driving, on_event=self._hear,
            encode_text=None if inputs.clip is None else self._encode, speak=synthesize,
            record_to=self._record_once, record_with=self._open, before_chunk=self._before_chunk,
            change_settings=self._change, decode_beside=not computes_here(inputs.model, begun.conditioning),
            longest=inputs.seconds or LONGEST, viewer=PromptServer.instance.client_id is not None,
        )  # fmt: skip

    def _encoder(self) -> HostSpeechEncoder | None:
        given = self._inputs.audio_encoder
        return None if given is None else HostSpeechEncoder(given, self._inputs.model)

    def _own_inputs(self) -> Mapping[str, Any]:
        context = get_executing_context()
        prompt = self._inputs.hidden.prompt or {}
        return {} if context is None else prompt.get(context.node_id, {}).get("inputs", {})

    def _chunks(self, wait: Callable[[], object]) -> Iterator[MediaChunk]:
        """With progress and figures. What has happened is handed on before ComfyUI's stop may be raised."""
        bar = ProgressBar(max(1, round(self._inputs.seconds * self.made.fps))) if self._inputs.seconds else None
        for chunk in self.session.chunks(wait):
            self.num_made = max(self.num_made, chunk.first_frame + len(chunk.frames))
            self.log.add(_Row.of(chunk))
            yield chunk
            if bar is not None:
                bar.update_absolute(self.num_made)

    def draw(self, live: LiveSession) -> None:
        """Draw it until it ends; ComfyUI's stop is raised."""
        telling = Telling(live, self._said())
        self.session.apply(controls.StartRecording())
        if PromptServer.instance.client_id is None:
            live.alone_since = None  # the clock plays, and its time ends it
        live.source.want("fmp4")  # whoever attaches gets what is made by then, as they can play it
        telling.send(begun=True)
        try:
            with live.source.showing() as show:
                for chunk in self._chunks(lambda: (stop_if_asked(), telling.remind())):
                    show(chunk)
        finally:
            self._turn.close()
            self.log.end()
            telling.send(ended=True, reason=(live.ended_because or ("stopped", ""))[0])

    def written(self) -> Written:
        """The recording, the state and the figures.

        Raises:
            KnotError: nothing was recorded.
        """
        recorded = self._recorded
        if recorded is None or not recorded.path.exists():
            why = "" if recorded is None else f" ({recorded.message})"
            raise KnotError(f"there is no recording: the session ended before anything of it was shown{why}")
        if recorded.message:
            warn_on_node(recorded.message)
        return Written(path=recorded.path, preview=None, state=self.state(), stats=self.stats(), cut_short=True)

    def state(self) -> Snapshot:
        """The state as it lies between nodes."""
        return placed(self.session.snapshot(), host.intermediate_device())

    def stats(self) -> StreamStats:
        if self.stream is not None:
            self.log.threads = self.stream.threads
        return self.log.freeze()

    def _said(self) -> Mapping[str, Any]:
        prompt, extra = self._inputs.hidden.prompt or {}, self._inputs.hidden.extra_pnginfo
        edited = list(timelines(prompt, self._link.get("driving"), self._inputs.driving))
        if self._prompts is not None and (link := self._prompt_timeline()) is not None:
            edited.append(link)
        return {"timelines": edited, "target": place_of(self._path), "fps": self.made.fps,
                "workflow": workflow_id(extra), "longest": self._inputs.seconds or LONGEST}  # fmt: skip

    def _prompt_timeline(self) -> str | None:
        """The id of the node that the anchor comes from, if it is one."""
        prompt, link = self._inputs.hidden.prompt or {}, self._link.get("anchor")
        key = link[0] if isinstance(link, list) else None
        return key if prompt.get(key, {}).get("class_type") == PROMPTS else None

    def _hear(self, event: Event) -> None:
        if isinstance(event, Recorded):
            self._recorded = event  # the hub would offer it for download; here it is the node's result
        elif self._listener is not None:
            self._listener(event)

    def _listen(self, listener: Callable[[Event], None]) -> None:
        self._listener = listener

    def _record_once(self) -> Path:
        if self._path.exists() or self._recorded is not None:
            raise KnotError("the node records the whole session by itself, into one file")
        return self._path

    def _open(self, path: Path, **values: Any) -> Writer:
        hidden = self._inputs.hidden
        metadata = container_metadata(hidden.prompt, hidden.extra_pnginfo)
        return open_writer(path, video_format=self._format, metadata=metadata, **values)

    def _before_chunk(self, stream: Stream) -> None:
        self.stream = stream
        self._turn.do()
        if isinstance(self._inputs.model, HostModel):
            self._inputs.model.bring_in(self._bytes)  # prompts may have been encoded meanwhile
        self._follow(stream, self._prompts)

    def _follow(self, stream: Stream, prompts: TimedPrompts | None) -> None:
        """Prompts over time."""
        if prompts is None or prompts.texts_BTD is None:
            return
        plan = prompts.timeline.plan(stream.settings.num_chunk_frames, self.made.fps)
        wanted = prompts, plan.weights_at(stream.plan.start, stream.settings.num_chunk_frames)
        if wanted != self._set_before:
            recache = plan.recache and self._set_before is not None
            stream.set_text(blend(prompts.texts_BTD, wanted[1]), recache=recache)
            self._set_before = wanted

    def _encode(self, text: str) -> Tensor:
        """[1, T, D] by ComfyUI's text encoder, in ComfyUI's thread; asked from another one."""
        return self._turn.ask(lambda: encoded(self._inputs.clip, text)).result()

    def edit(self, node: str, text: str) -> None:
        """A timeline was edited: the new one holds from the next chunk on. Any thread.

        Raises:
            KnotError: it is no timeline of this session's, or the text is none.
        """
        with self._editing:
            self._edit(self._inputs.hidden.prompt or {}, node, text)

    def _edit(self, prompt: Mapping[str, Any], node: str, text: str) -> None:
        if self._prompts is not None and node == self._prompt_timeline():
            make = edited_prompts(self._prompts, text)
            self._turn.ask(lambda: self._take_prompts(make()))
        elif node in timelines(prompt, self._link.get("driving"), self._beneath):
            timeline = expression_timeline(text)
            self._beneath = remade(prompt, self._link["driving"], self._beneath, node, timeline)
            self.driving.set_beneath(self._beneath)
        else:
            raise KnotError(f"node {node:.40} is no timeline that moves this session")

    def _take_prompts(self, prompts: TimedPrompts) -> None:
        self._prompts = prompts


@dataclass(frozen=True)
class _Row:
    """The part of a chunk that the run's figures are made of."""

    index: int
    first_pixel_frame: int
    pixel_frames: Any
    seconds: Mapping[str, float]

    @classmethod
    def of(cls, chunk: MediaChunk) -> "_Row":
        return cls(chunk.chunk, chunk.first_frame, chunk.frames, chunk.seconds)
