"""The immutable part of the index: up to 65,536 images, searchable and never changed after it is built."""
