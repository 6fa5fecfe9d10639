"""What is said: TLS, HTTP on it, the tunnel's handshake and its bytes, the control messages.

- ``tls``        the one TLS policy: ``ServerTls``, ``ClientTls``, ``connect_tls``, ``accept_tls``, ``export_binding``
- ``handshake``  from a socket to a verified peer; ``transport`` the established connection; ``farewell`` its end
- ``records``    OpenSSL's record layer on shared buffers; ``outlet`` straight to the socket
- ``http``       aiohttp on it: ``connector`` for clients, ``HttpsServer``
- ``connect``    the CONNECT handshake of a tunnel, both sides, pure
- ``relay``      a tunnel's bytes, TLS to plain TCP and back
- ``messages``   what the parties say to each other, one frozen class a message
- ``limits``     every number with its reason; ``errors`` whose fault it is
"""
