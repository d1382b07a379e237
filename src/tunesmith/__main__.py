"""Let `python -m tunesmith` be the command `tunesmith`."""

from tunesmith.cli.app import main

if __name__ == "__main__":
    main()
