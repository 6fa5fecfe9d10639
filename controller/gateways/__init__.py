"""Gateways: which there are, and the link each one keeps.

- ``registry``  gateways as administrators know them
- ``link``      the controller's end of every link: ``Links``; ``conversation`` is one of them
- ``changes``   the numbered changes a gateway is told, pure; ``reports`` from what it reports to audit events
"""
