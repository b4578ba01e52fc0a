"""`python -m sync` is `mirror`."""

from sync.cli import main

main()
