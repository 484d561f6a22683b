"""Withdraw what rests, close every position, and stay halted until `emp resume`."""

from emp.app.commands.control import control_app

app = control_app("flatten", __doc__)
