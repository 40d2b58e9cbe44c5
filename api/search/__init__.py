"""The second seam, looking up: in this process, or asking query nodes."""
