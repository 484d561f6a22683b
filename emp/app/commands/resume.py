"""Trade again after halt, flatten, kill or a loss limit, once nothing is being closed any more."""

from emp.app.commands.control import control_app

app = control_app("resume", __doc__)
