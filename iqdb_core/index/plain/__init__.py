"""The arithmetic of the index in numpy: slow, simple, not compiled. Kernels must agree with it exactly."""
