"""Middleware before every route: limits, rights, origins, capacity of the queue."""
