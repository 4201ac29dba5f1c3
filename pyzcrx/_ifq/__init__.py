"""A ring's use of an interface queue."""
