"""Cost curves that were measured: knot-tiny at 128x128, 25 pictures a second.

They are of one session at a time: nothing is claimed of several that are drawn together.
"""

from .costs import Costs, Measured

# docs/figures.md, the stages of the fastest run on 2 cores of an EPYC (Zen 5, bfloat16), in ms per picture: 4 steps
# 5.3, decode 4.0, commit 1.2, write 1.2; 12 pictures a chunk. Chunks of one latent frame: in the proportions below.
TWO_CORES_BFLOAT16 = Costs((Measured(3, 1, 0.0159, 0.0768), Measured(1, 1, 0.0084, 0.0327)), fps=25)

# Processor seconds on one core (AVX2, float32), least of 14 chunks: 0.432, 0.532, 0.736 at 1, 2, 4 steps; 0.195, 0.240,
# 0.356 for chunks of one latent frame; 0.006 for encoding 12 pictures. Both cores draw at once.
TWO_CORES_FLOAT32 = Costs((Measured(3, 1, 0.1014, 0.3365), Measured(1, 1, 0.0537, 0.1431)), fps=25, lanes=2)

CURVES = {"2 cores, bfloat16": TWO_CORES_BFLOAT16, "2 cores, float32": TWO_CORES_FLOAT32}
