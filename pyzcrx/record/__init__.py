"""Received bytes into files: which of them need no copy, and what of them is on disk."""
