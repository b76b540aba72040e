"""A mail server that keeps what it gets in memory. SMTP on port 1025; GET /messages on port 8025 shows it as JSON."""

import asyncio
import email
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from aiosmtpd.smtp import SMTP

messages = []


class Keep:
    async def handle_DATA(self, server, session, envelope):
        mail = email.message_from_bytes(envelope.content)
        messages.append({
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "subject": mail["subject"],
            "message_id": mail["message-id"],
            "raw": envelope.content.decode("utf-8", "replace"),
        })
        return "250 kept"


class Inbox(BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps(list(messages)).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


async def main():
    loop = asyncio.get_running_loop()
    await loop.create_server(lambda: SMTP(Keep(), loop=loop), "0.0.0.0", 1025)
    threading.Thread(target=ThreadingHTTPServer(("0.0.0.0", 8025), Inbox).serve_forever, daemon=True).start()
    await asyncio.Event().wait()


asyncio.run(main())
