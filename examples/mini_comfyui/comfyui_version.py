"""The version in /system_stats: the ComfyUI that this one imitates, and that it is not that ComfyUI."""

__version__ = "0.3.64+mini"
