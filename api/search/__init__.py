"""The second seam, search: in this process, or by asking query nodes."""
