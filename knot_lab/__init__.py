"""The lab: what makes the built-in model's weights, and the evidence of its quality. The engine never imports it."""
