"""The console script `gloam-gateway`. It imports nothing but what Ctrl-C needs (console/start.py)."""

from console.start import start


def main() -> None:
    """Run the command line."""
    start("gateway.cli")


if __name__ == "__main__":
    main()
