"""What asks: the command `gloam` of people and their devices.

- ``cli``          the command line; ``login``, ``ask`` and ``report`` are its conversation and its words
- ``enrol``        from an invite to a device; ``profile`` what a device knows; ``state`` where it keeps it
- ``agent``        the background process that owns the session
- ``controllers``  requests to whichever controller answers; ``dial`` knock, connect, TLS; ``clock`` whose time it is
- ``session``      what a session may reach, pure; ``reach`` from a typed name to an open tunnel; ``tunnel`` opens it
- ``forward``      a local port; ``stdio`` a ProxyCommand; ``knock`` for curl
"""
