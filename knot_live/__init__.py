"""Live sessions: streams that people and agents drive while they run."""
