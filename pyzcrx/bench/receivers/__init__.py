"""The receivers that are compared, and their catalogue."""
