"""One io_uring ring: its memory, a turn, and how long a turn waits. It knows no receive request."""
