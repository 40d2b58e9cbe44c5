"""The library: signatures, index, store, follower, ledger of jobs; without web, Celery or environment."""
