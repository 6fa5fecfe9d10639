"""The console script `gloam-controller`. It imports nothing but what Ctrl-C needs (console/start.py)."""

from console.start import start


def main() -> None:
    """Run the command line."""
    start("controller.cli")


if __name__ == "__main__":
    main()
