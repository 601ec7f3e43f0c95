"""Training: the video autoencoder, the few-step network, and from teacher to student for any network."""
