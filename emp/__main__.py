"""`python -m emp` is `emp`."""

from emp.app.cli import main

main()
