"""Live sessions as the face of an agent: for Pipecat and for LiveKit's agents, each with an extra of its own."""
