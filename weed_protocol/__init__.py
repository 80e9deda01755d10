"""The admin's two dialects, translated to and from plain commands and reports. Pure: no sockets, no gevent."""
