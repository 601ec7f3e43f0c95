"""The engine as live sessions use it. No other file of this package imports it.

ComfyUI loads the pack under a name of its own, and there is no top-level `knot_core` there: the engine lies beside this
package under the same parent. Everywhere else both packages are top-level ones.
"""

if __package__.rpartition(".")[0]:
    from ..knot_core import (
        Anchor,
        Chunk,
        Driving,
        DrivingError,
        KnotError,
        MediaError,
        Model,
        SettingsError,
        Snapshot,
        SpeechEncoder,
        SpeechWindow,
        StateError,
        Stream,
        StreamSettings,
        VideoWriter,
        begin_stream,
        continue_stream,
        load_model,
        load_stream,
        load_text_encoder,
        open_audio,
        open_image,
        open_stream,
        state_of,
    )
    from ..knot_core.config import UNITS as UNITS_NAME
    from ..knot_core.config import Adapter, AdapterConfig, takes_controls
    from ..knot_core.driving.audio import MEL_DIM, Reach, resample
    from ..knot_core.driving.audio import SAMPLE_RATE as HEARD_RATE
    from ..knot_core.driving.expression import Curve
    from ..knot_core.driving.expression_controls import CONTROLS, MOUTH_CONTROLS, POSE_CONTROLS, RANGES
    from ..knot_core.driving.faces import measure as measure_face
    from ..knot_core.driving.faces import to_controls, usual_face
    from ..knot_core.driving.idle import IdleMotion
    from ..knot_core.driving.landmarks import Finder as FaceFinder
    from ..knot_core.driving.landmarks import open_finder
    from ..knot_core.driving.mel import LiveMel
    from ..knot_core.driving.signal_form import SIGNAL_DIM, in_form
    from ..knot_core.driving.spoken_units import load_spoken_units, spoken_units
    from ..knot_core.driving.wav2vec_windows import LIVE
    from ..knot_core.errors import mistake_in
    from ..knot_core.geometry import TEMPORAL, first_pixel_frame
    from ..knot_core.media.downmix import MEAN, chosen, mixed
    from ..knot_core.media.face_alignment import NoFaceError
    from ..knot_core.media.generated_mark import GENERATED_BOX
    from ..knot_core.media.reference_crop import crop_reference, is_aligned
    from ..knot_core.media.sample_pictures import sample_pictures
    from ..knot_core.media.samples import check_rate, to_samples
    from ..knot_core.model_loading import ASSETS, BUILT_IN, DEFAULT_MODEL, built_in_models
    from ..knot_core.plot_sheet import Axis, Sheet
    from ..knot_core.plot_sheet import frame as plot_frame
    from ..knot_core.shared_weights import SharedWeights, share_weights
    from ..knot_core.stream import (
        LateChunk,
        LateDecoder,
        LateMemory,
        fingerprint,
        larger_groups,
        next_chunks,
        stream_of_parts,
        stream_parts,
    )
    from ..knot_core.threads import num_processors
else:
    from knot_core import (
        Anchor,
        Chunk,
        Driving,
        DrivingError,
        KnotError,
        MediaError,
        Model,
        SettingsError,
        Snapshot,
        SpeechEncoder,
        SpeechWindow,
        StateError,
        Stream,
        StreamSettings,
        VideoWriter,
        begin_stream,
        continue_stream,
        load_model,
        load_stream,
        load_text_encoder,
        open_audio,
        open_image,
        open_stream,
        state_of,
    )
    from knot_core.config import UNITS as UNITS_NAME
    from knot_core.config import Adapter, AdapterConfig, takes_controls
    from knot_core.driving.audio import MEL_DIM, Reach, resample
    from knot_core.driving.audio import SAMPLE_RATE as HEARD_RATE
    from knot_core.driving.expression import Curve
    from knot_core.driving.expression_controls import CONTROLS, MOUTH_CONTROLS, POSE_CONTROLS, RANGES
    from knot_core.driving.faces import measure as measure_face
    from knot_core.driving.faces import to_controls, usual_face
    from knot_core.driving.idle import IdleMotion
    from knot_core.driving.landmarks import Finder as FaceFinder
    from knot_core.driving.landmarks import open_finder
    from knot_core.driving.mel import LiveMel
    from knot_core.driving.signal_form import SIGNAL_DIM, in_form
    from knot_core.driving.spoken_units import load_spoken_units, spoken_units
    from knot_core.driving.wav2vec_windows import LIVE
    from knot_core.errors import mistake_in
    from knot_core.geometry import TEMPORAL, first_pixel_frame
    from knot_core.media.downmix import MEAN, chosen, mixed
    from knot_core.media.face_alignment import NoFaceError
    from knot_core.media.generated_mark import GENERATED_BOX
    from knot_core.media.reference_crop import crop_reference, is_aligned
    from knot_core.media.sample_pictures import sample_pictures
    from knot_core.media.samples import check_rate, to_samples
    from knot_core.model_loading import ASSETS, BUILT_IN, DEFAULT_MODEL, built_in_models
    from knot_core.plot_sheet import Axis, Sheet
    from knot_core.plot_sheet import frame as plot_frame
    from knot_core.shared_weights import SharedWeights, share_weights
    from knot_core.stream import (
        LateChunk,
        LateDecoder,
        LateMemory,
        fingerprint,
        larger_groups,
        next_chunks,
        stream_of_parts,
        stream_parts,
    )
    from knot_core.threads import num_processors

__all__ = [
    "ASSETS",
    "BUILT_IN",
    "CONTROLS",
    "DEFAULT_MODEL",
    "GENERATED_BOX",
    "HEARD_RATE",
    "LIVE",
    "MEAN",
    "MEL_DIM",
    "MOUTH_CONTROLS",
    "POSE_CONTROLS",
    "RANGES",
    "SIGNAL_DIM",
    "TEMPORAL",
    "UNITS_NAME",
    "Adapter",
    "AdapterConfig",
    "Anchor",
    "Axis",
    "Chunk",
    "Curve",
    "Driving",
    "DrivingError",
    "FaceFinder",
    "IdleMotion",
    "KnotError",
    "LateChunk",
    "LateDecoder",
    "LateMemory",
    "LiveMel",
    "MediaError",
    "Model",
    "NoFaceError",
    "Reach",
    "SettingsError",
    "SharedWeights",
    "Sheet",
    "Snapshot",
    "SpeechEncoder",
    "SpeechWindow",
    "StateError",
    "Stream",
    "StreamSettings",
    "VideoWriter",
    "begin_stream",
    "built_in_models",
    "check_rate",
    "chosen",
    "continue_stream",
    "crop_reference",
    "fingerprint",
    "first_pixel_frame",
    "in_form",
    "is_aligned",
    "larger_groups",
    "load_model",
    "load_spoken_units",
    "load_stream",
    "load_text_encoder",
    "measure_face",
    "mistake_in",
    "mixed",
    "next_chunks",
    "num_processors",
    "open_audio",
    "open_finder",
    "open_image",
    "open_stream",
    "plot_frame",
    "resample",
    "sample_pictures",
    "share_weights",
    "spoken_units",
    "state_of",
    "stream_of_parts",
    "stream_parts",
    "takes_controls",
    "to_controls",
    "to_samples",
    "usual_face",
]
