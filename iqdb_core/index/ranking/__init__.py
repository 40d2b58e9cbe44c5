"""From a query and the segments to the best matches, exactly. Never changes an index."""
