"""Figures: of a video's making, and of the engine alone at any size of network."""
