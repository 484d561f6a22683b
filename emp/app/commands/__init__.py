"""One module per command of `emp`; see `emp.app.cli` for how they are found."""

PANELS: dict[str, tuple[str, ...]] = {
    "Begin": ("init", "doctor", "config", "instruments", "formats", "context"),
    "Trade": ("run", "halt", "resume", "flatten", "kill", "stop", "reload", "watch", "alert"),
    "Look": ("status", "runs", "report", "why", "explain", "whatif", "reconcile", "soak"),
    "Replay and simulate": ("replay", "sim", "capacity", "plan", "league", "surrogate"),
    "Train and judge": ("train", "finetune", "evaluate", "ablate"),
    "Gates": ("gates", "models", "promote", "rollback", "audit"),
    "Operate and prove": ("validate", "bench", "chaos", "mirror", "box"),
}
"""Commands as help lists them: in the order in which one comes to need them."""
