"""Signatures in fewer bytes: what a file of rows holds instead of 264 bytes each."""
