"""How this process asks the kernel, and what its answers mean."""
