"""The library: signatures, index, store and follower, without web, queue or environment."""
