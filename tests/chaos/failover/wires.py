"""A wire between two of the three places that can be cut: a TCP proxy on a port of its own."""

import selectors
import socket
import threading
from contextlib import suppress

BLOCK = 65_536


class Wire:
    """Forwards to a port; cut, it ends every connection and takes no new one."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.is_cut = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """From now on nothing gets through."""
        self.is_cut = True
        with self._lock:
            for pair in self._pairs:
                for one in pair:
                    with suppress(OSError):
                        one.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        """New connections get through again."""
        self.is_cut = False

    def close(self) -> None:
        """The end."""
        self.cut()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if self.is_cut:
                near.close()
                continue
            try:
                far = socket.create_connection(("127.0.0.1", self.target), timeout=5)
                far.settimeout(None)
            except OSError:
                near.close()
                continue
            threading.Thread(target=self._carry, args=(near, far), daemon=True).start()

    def _carry(self, near: socket.socket, far: socket.socket) -> None:
        pair = near, far
        with self._lock:
            self._pairs.add(pair)
        other = {near: far, far: near}
        with selectors.DefaultSelector() as selector, suppress(OSError):
            for one in pair:
                selector.register(one, selectors.EVENT_READ, one)
            while not self.is_cut:
                for key, _ in selector.select(1.0):
                    source: socket.socket = key.data
                    block = source.recv(BLOCK)
                    if not block:
                        raise ConnectionResetError
                    other[source].sendall(block)
        with self._lock:
            self._pairs.discard(pair)
        for one in pair:
            one.close()
