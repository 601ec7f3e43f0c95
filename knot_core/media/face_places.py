"""The places of eyes and mouth in training, in pixels of a square: the renderer of `knot_lab` puts its heads there."""

SIDE = 256  # pixels of the square
EYES_MIDPOINT = (128.0, 112.0)
EYE_DISTANCE = 62.0
MOUTH = (128.0, 178.0)
