"""Read the section `model` of the run's file again; its artifact takes over between two events."""

from emp.app.commands.control import control_app

app = control_app("reload", __doc__)
