"""One world, one seed: virtual time, network and disk for whole runs, and the faults that befall them."""
