"""Decoders, one file per format that needs more than Pillow's own reader.

Each reads as much as possible of a damaged file, and says whether anything was missing. Called by
`iqdb_core.signature.decode` only.
"""
