"""Many sessions: a gateway that holds the clients, workers that draw, and a table of who draws what, on Ray.

This package is the only place that imports Ray.
"""
