"""From one picture's bytes to its pixels, a file per format that needs more than Pillow's own reader.

Each reads what can be read of a damaged file, and says whether anything was missing. Called by
`iqdb_core.signature.decode` only.
"""
