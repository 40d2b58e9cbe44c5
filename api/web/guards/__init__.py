"""What stands before every route: limits, rights, origins, room in the queue."""
