"""The first seam, adding and deleting: here and now, or through the queue."""
