"""What a query node says to front ends: its routes, and the protocol that both sides speak."""
