"""Thumbnails of an operator's picture files, shown beside the matches that came from them."""
