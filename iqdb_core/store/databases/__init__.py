"""The databases that can carry the store: statements, connections and errors of each."""
