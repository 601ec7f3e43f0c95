"""Measuring a model's videos against the truth."""
