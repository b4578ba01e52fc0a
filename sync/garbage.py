"""Python's collector of garbage, told where there is none.

What was loaded stays for good, and a slice of records is freed by its counts of references; looking at all of it
again and again took a seventh of a backfill's time, and 0.1 s from time to time of the API's.
"""

import gc

COLLECT_AFTER = (10_000, 20, 100)
"""Objects more than before until the youngest are looked at; how often that until the older are; and until all are."""


def spare_what_is_loaded() -> None:
    """Let the collector look at what is made from now on, and hardly ever at all of it."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)
