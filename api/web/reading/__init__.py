"""What a request says: bodies, forms, JSON and pictures read strictly into values."""
