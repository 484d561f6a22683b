"""What can go wrong at the cTrader venue."""

import msgspec


class Faults(msgspec.Struct):
    """What goes wrong, until it is switched off; counters count down."""

    silent: bool = False  # nothing is sent any more, the connection stands
    slow: bool = False  # every byte is a write of its own
    duplicate: bool = False  # execution events are sent twice
    lose_reports: int = 0  # execution events that are not sent
    lose_orders: int = 0  # new orders that are not even read
    refuse_orders: str = ""  # an error code for every new order
    refuse_depth: str = ""  # an error code for every subscription to depth
    cut_frame: int = 0  # bytes of the next frame that are sent before the connection breaks
    delay_s: float = 0.0  # before anything is sent
    shuffle_deletes: bool = False  # deletes in reverse order, and some for ids never given
