"""The version that /system_stats shows: the ComfyUI whose shape this is, and that this is not it."""

__version__ = "0.3.64+mini"
