"""Administration over a Unix socket in the state directory, while the controller runs.

socket.py    the path, and the rule who may speak
server.py    the controller's end: one POST a command, each with its own frozen arguments
client.py    the commands' end
commands.py  every command there is, by name; people.py, places.py, access.py, live.py hold them by noun
"""
