"""Requests that try to get past the key, sent byte for byte as they are written."""
