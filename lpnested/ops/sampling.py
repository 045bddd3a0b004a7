"""Exact draws, by the backend that serves their device."""
