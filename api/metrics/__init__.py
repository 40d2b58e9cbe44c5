"""Metrics: counted while requests run, or read when `/metrics` is asked."""
