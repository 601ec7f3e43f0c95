"""Drawn portraits, their motion and their speech, of which the truth is known in every frame."""
