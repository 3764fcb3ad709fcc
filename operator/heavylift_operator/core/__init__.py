"""The pure core: evidence in, outcome and decision out; no I/O, no clock, no random source of its own."""
