"""What goes on aside while queries run: merging, compaction, checkpoints, and the thread that does it."""
