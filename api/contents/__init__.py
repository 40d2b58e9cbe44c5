"""Reads everything that is stored: lists, missing ids, exports, the feed. Uses the store, never the index."""
