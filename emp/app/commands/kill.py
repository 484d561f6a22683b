"""Pull the kill switch: flatten, with a risk breach told. Halted until `emp resume`."""

from emp.app.commands.control import control_app

app = control_app("kill", __doc__)
