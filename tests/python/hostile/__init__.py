"""Requests that try to get past the key, sent byte by byte as they are written."""
