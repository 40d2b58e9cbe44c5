"""Background work while queries run: merging, compaction, checkpoints, and the thread that does it."""
