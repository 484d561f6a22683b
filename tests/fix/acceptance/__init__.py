"""QuickFIX's acceptance definitions for FIX 4.4, as behaviour, run against both of our ends of a session.

    python -m tests.fix.acceptance          prints the table of docs/fix.md

Each case says what a definition demands, in our words, and plays it: against our venue (`FixVenue`, strict) as
the acceptor, and the other way round against our session as the initiator. Where a definition sends an order and
expects it back, the venue must answer it with a report, and the initiator must hand a report to its application.
"""
