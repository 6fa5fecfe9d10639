"""What is kept outside the database, or carried away from it, and how it comes back.

encrypted.py   files in the age format, by passphrase or for recipients
root.py        the root key in a file of its own; what it is asked to sign, and signs
"""
