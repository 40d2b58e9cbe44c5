"""The index's files: names, signatures beside segments, checkpoints. Decides nothing about when."""
