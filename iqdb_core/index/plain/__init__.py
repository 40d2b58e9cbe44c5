"""The index's arithmetic in numpy: slow, obvious, needs no compiling. Kernels must agree with it exactly."""
