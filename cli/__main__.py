"""`python -m cli` is the `panther` command."""

from cli import main

main()
