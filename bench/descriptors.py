"""Thousands of tunnels need thousands of descriptors in every process that holds an end of them."""

import resource


def allow_many() -> None:
    """As many descriptors as this process may have. Processes it starts inherit that."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
