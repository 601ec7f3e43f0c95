"""The command line: `python -m knot_lab train | evaluate | study`."""
