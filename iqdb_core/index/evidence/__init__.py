"""How likely a match is a copy: evidence of one signature about another, and the search that ranks by it."""
