"""The index's arithmetic in numpy: slow, obvious, right at once. What the kernels must agree with exactly."""
