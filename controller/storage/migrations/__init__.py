"""The versions of the schema. A new one: ``python -m controller.storage.migrations "what it does"``."""
