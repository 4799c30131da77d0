"""Servers inside a sandbox, for what comes in through its ports. Prints a line when all of them listen."""

import base64
import hashlib
import http.server
import os
import socket
import ssl
import sys
import threading
import time

BIG = 100 * 1024 * 1024
PIECE = bytes(range(256)) * 256


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_args):
        pass

    def text(self, text, **headers):
        body = text.encode()
        self.send_response(200)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        if self.path == "/big":
            self.send_response(200)
            self.send_header("Content-Length", str(BIG))
            self.end_headers()
            for _piece in range(BIG // len(PIECE)):
                self.wfile.write(PIECE)
        elif self.path == "/events":
            self.events()
        elif self.path == "/endless":
            self.send_response(200)
            self.send_header("Connection", "close")
            self.end_headers()
            try:
                while True:
                    self.wfile.write(b"x" * 1024)
                    time.sleep(0.01)
            except OSError:
                open("/tmp/client-gone", "w").close()
            self.close_connection = True
        elif self.path == "/headers":
            self.text("".join(f"{name.lower()}: {value}\n" for name, value in self.headers.items()))
        else:
            self.text("hello", Set_Cookie="a=b; Domain=test")

    def events(self):
        """One event for every file that appears."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        for number in range(3):
            while not os.path.exists(f"/tmp/event-{number}"):
                time.sleep(0.01)
            self.wfile.write(f"data: {number}\n\n".encode())
        self.close_connection = True

    def do_POST(self):
        left, digest = int(self.headers["Content-Length"]), hashlib.sha256()
        while left > 0:
            piece = self.rfile.read(min(left, 1 << 20))
            left -= len(piece)
            digest.update(piece)
        self.text(digest.hexdigest())


class Six(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6


def websocket(connection):
    """Says back every short text frame (RFC 6455)."""
    stream = connection.makefile("rwb")
    key = None
    while (line := stream.readline().strip()):
        if line.lower().startswith(b"sec-websocket-key:"):
            key = line.split(b":")[1].strip()
    accept = hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
    stream.write(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + base64.b64encode(accept) + b"\r\n\r\n"
    )
    stream.flush()
    while len(head := stream.read(2)) == 2:
        mask = stream.read(4)
        text = bytes(b ^ mask[i % 4] for i, b in enumerate(stream.read(head[1] & 0x7F)))
        stream.write(bytes([head[0], len(text)]) + text)
        stream.flush()


def websockets():
    listener = socket.create_server(("127.0.0.1", 8082))
    while True:
        threading.Thread(target=websocket, args=listener.accept()[:1], daemon=True).start()


def serve(server):
    threading.Thread(target=server.serve_forever, daemon=True).start()


serve(http.server.ThreadingHTTPServer(("127.0.0.1", 8080), Handler))
serve(Six(("::1", 8081), Handler))
threading.Thread(target=websockets, daemon=True).start()
if len(sys.argv) > 1:
    secure = http.server.ThreadingHTTPServer(("127.0.0.1", 8443), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[1])
    secure.socket = context.wrap_socket(secure.socket, server_side=True)
    serve(secure)
print("ready", flush=True)
threading.Event().wait()
