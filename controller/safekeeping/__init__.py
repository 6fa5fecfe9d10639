"""What is kept outside the database, or carried away from it, and how it comes back.

encrypted.py   files in the age format, by passphrase or for recipients
dump.py        a database as lines, and back
backup.py      a controller as one file
restore.py     a controller out of one
resealing.py   a new master key
root.py        the root key in a file of its own; what it is asked to sign, and signs
"""
