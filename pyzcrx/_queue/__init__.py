"""What is shared with the kernel: the registered queue, its areas, refill queue and buffers."""
