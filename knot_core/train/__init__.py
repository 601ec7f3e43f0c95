"""Training of the built-in model: procedural portraits, synthetic speech, the codec, the network, evaluation."""
