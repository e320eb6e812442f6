"""One of the eight senders of `bin/bench alerts`: posts its bodies one after the other, or inserts the same ones.

Arguments: "post" and a port, or "insert" and a table; a file of bodies; which of the eight it is. It says "ready",
waits for a line, and answers with the seconds of each of its bodies.
"""

import json
import os
import pickle
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
from psycopg import sql

SENDERS = 8
TOKEN = "a-token-of-the-benchmark"


def main() -> None:
    how, where, file, number = sys.argv[1:5]
    bodies: list[bytes] = pickle.loads(Path(file).read_bytes())[int(number) :: SENDERS]
    send = _poster(int(where)) if how == "post" else _inserter(where)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    took = []
    for body in bodies:
        before = time.perf_counter()
        send(body)
        took.append(time.perf_counter() - before)
    sys.stdout.write(json.dumps(took) + "\n")
    sys.stdout.flush()


def _poster(port: int) -> Callable[[bytes], None]:
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def post(body: bytes) -> None:
        head = (
            "POST /intake/alertmanager HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            f"Authorization: Bearer {TOKEN}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        connection.sendall(head.encode() + body)
        answer = connection.recv(4096)
        while not answer.endswith(b"}"):
            more = connection.recv(4096)
            assert more, answer
            answer += more
        assert answer.startswith(b"HTTP/1.1 202"), answer

    return post


def _inserter(table: str) -> Callable[[bytes], None]:
    connection = psycopg.connect(os.environ["DATABASE_URL"], autocommit=True)
    statement = sql.SQL("INSERT INTO {} (source_id, body) VALUES (%b, %b)").format(sql.Identifier(table))

    def insert(body: bytes) -> None:
        connection.execute(statement, [1, body])

    return insert


if __name__ == "__main__":
    main()
