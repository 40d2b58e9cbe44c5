"""Metrics: counted while requests run, or read at each request of `/metrics`."""
