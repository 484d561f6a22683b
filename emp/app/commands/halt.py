"""Decide no new order and withdraw what rests; positions stay. Until `emp resume`."""

from emp.app.commands.control import control_app

app = control_app("halt", __doc__)
