"""Parses requests: bodies, forms, JSON and pictures are read strictly into values."""
