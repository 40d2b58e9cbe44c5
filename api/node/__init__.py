"""What a query node says to front ends: its protocol."""
