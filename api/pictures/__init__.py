"""Files of an operator's pictures, shown small beside the matches that came from them."""
