"""Fetches pictures by web address for clients, within limits, from the public internet only."""
