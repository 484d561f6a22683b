"""Set-up that tests of several folders share: orders, instruments, markets, models, engines."""
