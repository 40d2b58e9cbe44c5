"""The first seam, adding and deleting: within this process, or through the queue."""
