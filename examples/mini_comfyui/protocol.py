"""Numbers that open a binary WebSocket message (big-endian, four bytes)."""


class BinaryEventTypes:
    """The frontend tells previews and texts apart by these numbers."""

    PREVIEW_IMAGE = 1
    UNENCODED_PREVIEW_IMAGE = 2
    TEXT = 3
    PREVIEW_IMAGE_WITH_METADATA = 4
