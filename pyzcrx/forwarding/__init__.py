"""Forwarding connections."""
