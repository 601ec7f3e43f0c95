"""Figures: of a video's making, and of the engine alone at any size of network."""

from .meter import Meter, peak_rss_mib

__all__ = ["Meter", "peak_rss_mib"]
