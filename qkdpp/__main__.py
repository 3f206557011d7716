"""``python -m qkdpp``."""

from qkdpp.cli import main

if __name__ == "__main__":
    main()
