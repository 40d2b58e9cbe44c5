"""Vectors, words and memory for compiled code. Knows no image."""
