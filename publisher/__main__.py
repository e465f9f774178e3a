"""Lets `python -m publisher` do what the `publisher` command does."""

from publisher.cli.main import main

if __name__ == "__main__":
    main()
