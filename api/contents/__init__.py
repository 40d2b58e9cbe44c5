"""All that is stored, read out: lists, what is missing, exports, the feed. Reads the store, asks no index."""
