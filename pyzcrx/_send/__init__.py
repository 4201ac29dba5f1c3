"""Requests that do not receive: accept and send."""
