"""Receive requests: their state, those that wait, and what they bring."""
