"""How the commands speak to people.

- ``start``     how a console script begins, and Ctrl-C before there is a command
- ``run``       the outermost call of every command: one line and an exit code, never a traceback
- ``errors``    exit codes, and an error that knows its fix
- ``piped``     what is piped into a command, bounded
- ``output``    JSON for machines, tables for people; ``text`` makes what others wrote harmless
- ``settings``  config.toml and the environment; ``toml`` writes a new one
- ``state``     where a role keeps its state; ``logs`` what it logs
- ``address``   HOST:PORT and durations as people type them

This package knows no other package of the project, and importing it imports nothing: commands load what they use
(``from console.run import run``), so that ``--help`` stays fast.
"""
