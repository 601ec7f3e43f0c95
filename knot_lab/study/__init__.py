"""The paper's ablations and comparisons: what is varied, measured and claimed."""
