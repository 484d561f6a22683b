"""Stylised facts: what a simulated market must share with a recorded one."""
