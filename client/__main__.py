"""The console script `gloam`. It imports nothing but what Ctrl-C needs (console/start.py)."""

from console.start import start


def main() -> None:
    """Run the command line."""
    start("client.cli")


if __name__ == "__main__":
    main()
