"""The judge's provider: a process of its own that takes every page, and writes down when each request arrived.

Each request is a line of `provider.jsonl`: when it arrived, path, headers, body, and the status it was answered with
(0: none). How it behaves towards a request is said by `moods/<word>` files: the first whose name is somewhere in the
request decides, by its content.
"""

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

FOLDER = Path(os.environ["DATA_DIR"])
MOODS = FOLDER / "moods"
SLOW_SECONDS, TOO_LATE_SECONDS = 2.0, 9.0
# mood: seconds before the answer, status. 0: the connection is cut without one.
ANSWERS = {
    "slow": (SLOW_SECONDS, 202), "failing": (0.0, 503), "too late": (TOO_LATE_SECONDS, 202), "cut": (0.0, 0),
    "cut late": (1.0, 0), "refusing": (0.0, 400), "busy": (0.0, 429),
}  # fmt: skip
# As many times it behaves so towards one key; then it is itself again.
TIMES = 2
met: dict[tuple[str, str], int] = {}
# What was taken as a message of Twilio's: whoever is not sure asks for them, since there is no idempotency key.
messages: list[dict[str, str]] = []


def mood_of(text: str) -> str:
    """How to behave towards a request."""
    for path in MOODS.iterdir():
        if path.name in text:
            mood = path.read_text()
            met[path.name, mood] = met.get((path.name, mood), 0) + 1
            return mood if met[path.name, mood] <= TIMES else ""
    return ""


def _answer(request: str, body: str, status: int) -> dict[str, object]:
    """What a provider says; a message is taken before anybody hears of it."""
    if request.startswith("GET") and "/Messages.json" in request:
        asked = parse_qs(urlsplit(request.split()[1]).query)
        found = [one for one in reversed(messages) if one["to"] == asked["To"][0]]
        return {"messages": found[: int(asked["PageSize"][0])]}
    sid = f"SM{time.time_ns()}"
    if "/Messages.json" in request and (status == 0 or status < 300):
        form = parse_qs(body)
        messages.append({"to": form["To"][0], "body": form["Body"][0], "sid": sid})
    return {"status": "success", "sid": sid, "dedup_key": "x", "message": "as the judge wishes"}


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One request of one connection; the next one gets another."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        arrived = time.time()
        lines = head.decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:] if line)
        }
        body = (await reader.readexactly(int(headers.get("content-length", "0")))).decode(errors="replace")
        mood = mood_of(head.decode("latin-1") + body)
        pause, status = ANSWERS.get(mood, (0.0, 202))
        note = {"at": arrived, "path": lines[0], "headers": headers, "body": body, "status": status, "mood": mood}
        with (FOLDER / "provider.jsonl").open("a") as log:
            log.write(json.dumps(note) + "\n")
        answer = json.dumps(_answer(lines[0], body, status)).encode()
        await asyncio.sleep(pause)
        if status:
            writer.write(f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nConnection: close\r\n"
                         f"Content-Length: {len(answer)}\r\n\r\n".encode() + answer)  # fmt: skip
            await writer.drain()
    except (OSError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


async def main(port: int) -> None:
    """Until it is killed."""
    server = await asyncio.start_server(serve, "127.0.0.1", port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
