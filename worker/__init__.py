"""The Celery worker: takes accepted images from the queue, hashes them and commits them."""
