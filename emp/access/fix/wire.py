"""How one connection's framer lies in memory: its bytes, the index of its fields, the state of its scan."""

from typing import Final

import numpy as np

COMP_ID: Final = 64
"""Longest comp id that can be checked."""

MORE, FRAME = 0, 1
"""What `next_frame` found: nothing whole yet, or a frame."""

POSS_DUP, POSS_RESEND, BAD_FIELD, BAD_COMP_ID, NO_SEQ, NO_TIME, BAD_BEGIN = 1, 2, 4, 8, 16, 32, 64
EMPTY_FIELD, NO_COMP_ID, REPEATED = 128, 256, 512
"""Bits of a frame's `flags`: header facts, and what is wrong with it although its sum is right.

BAD_FIELD: a field has no number for a tag, or no `=`; EMPTY_FIELD: one has no value; REPEATED: 34 or 52 twice.
"""

SOH: Final = 1
"""The byte that ends a field."""

TAG, AT, END = 0, 1, 2
"""Columns of the field index: a value is `buf[AT:END]`; the tag is -1 where it is none, -tag without a value."""

# Slots of the scan state, an int64 vector.
START = 0  # first byte of the frame being scanned
POS = 1  # next byte to look at
PHASE = 2
BODY_END = 3  # where `10=` must stand
N = 4  # fields closed so far
OPEN_TAG = 5  # of the open field
VALUE = 6  # where the open field's value begins, -1 while in the tag
DATA_LEN = 7  # length announced for the data field that follows, -1 if none
LIMIT = 8  # longest frame accepted
BEGIN_LEN, SENDER_LEN, TARGET_LEN = 9, 10, 11  # lengths of the expected header values, 0: anything
SKIPPED = 12  # bytes that belong to no frame
BAD_LENGTH, BAD_CHECKSUM, TOO_LONG, FRAMES = 13, 14, 15, 16
BAD = 17  # bits 1: a field of this frame has no tag, 2: one has no value
SLOTS = 18

# Where the expected header values stand, upper case, in front of the bytes received.
BEGIN_AT, SENDER_AT, TARGET_AT = 0, 16, 16 + COMP_ID
DATA = 16 + 2 * COMP_ID
"""First byte of the buffer that holds received bytes."""

MAX_FRAME: Final = 4 << 20
"""Longest frame accepted, in bytes: whole books of thousands of entries take hundreds of KiB."""

MAX_DATA: Final = 65_536
"""Longest data field believed: a garbled one hides what follows it for so long at most."""

SCRATCH: Final = 16
"""Length of the vector in which a decoder notes where the fields of one entry stand."""

WIRE = np.dtype(
    [
        ("buf", "u1", (DATA + 2 * MAX_FRAME,)),
        ("fields", "i4", (MAX_FRAME // 2, 3)),
        ("s", "i8", (SLOTS,)),
        ("scratch", "i8", (SCRATCH,)),
    ],
    align=True,
)
"""Everything one connection's framer owns; pages that nothing was written to take no memory.

Kernels take its bytes and view them: arrays inside a record are passed on between compiled functions without
reference counting, which halves the time of a parse."""
