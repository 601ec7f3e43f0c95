"""The Wan2.1 network: module tree, the one forward over it, positions, channel layouts, driving adapter."""
