"""The library: signatures, index, store, follower, job ledger; without web, Celery or environment."""
