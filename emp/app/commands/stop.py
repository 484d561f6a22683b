"""End the run in order: resting orders are withdrawn, the journal is sealed."""

from emp.app.commands.control import control_app

app = control_app("stop", __doc__)
